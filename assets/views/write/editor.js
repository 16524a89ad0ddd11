// The editor: one text that a person and the model write in turns, with buttons, status line and messages.
// The text is in sheet.js and writing.js, the model's turn in generation.js.

import { finder, isRunKey, onPress, setText, showRunKey, swapButtons } from "../../components/dom.js";
import { shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { t, told } from "../../core/i18n.js";
import { newId } from "../../core/id.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";
import { makeDrawer } from "./drawer.js";
import { Generation } from "./generation.js";
import { Remarks } from "./remarks.js";
import { keepControls } from "./session_controls.js";
import { Sheet } from "./sheet.js";
import { describeCount, describeEnd, describeRunning } from "./status.js";
import { TokenView } from "./tokens.js";
import { Writing } from "./writing.js";

const COUNT_PAUSE_MS = 250;

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const $ = finder(element);
  const root = $(".editor");
  const button = (/** @type {string} */ action) => $(`[data-action="${action}"]`, HTMLButtonElement);
  const several = $('[data-control="n"]', HTMLSelectElement);

  let lastEnd = /** @type {any} */ (null); // how the last request ended
  /** @type {{tokens: number | null, hint?: Told | null, message?: string} | null} */
  let counted = null; // the last count of the text
  let unread = { tokens: 0, end: 0 }; // tokens that truncation drops, and where they end
  let windowLook = 0; // number of the latest query; older answers are ignored
  let isHealing = false; // whether the controls turn token healing on

  const sheet = new Sheet(root);
  const writing = new Writing(sheet, { changed, isLocked: () => generation.isRunning });
  const tokens = new TokenView({
    root,
    sheet,
    text: () => writing.written.text,
    goOn: (at, text, length, token) => generation.goOnFrom(at, text, length, token),
    score: (text, logprobs) => server.score({ id: newId(), text, logprobs }),
  });
  const generation = new Generation({ server, trigger }, writing, tokens, {
    begun() {
      hideNotice();
      remarks.hide();
      showRunning(true);
      changed();
      showStatus();
    },
    progress: showStatus,
    wrote() {
      render();
      remarks.lookForLoop();
    },
    dropped: lookAtWindow,
    lost: (message) => showNotice(message),
    ended(end) {
      showRunning(false);
      lastEnd = end.failed ? null : end;
      if (end.failed) {
        showNotice(end.message, end.control);
        emit("refresh-status");
      } else {
        counted = { tokens: end.prompt_tokens + end.completion_tokens }; // until the next count
      }
      changed();
      showStatus();
      remarks.runEnded();
      if (end.code === "text.joined" && generation.marked.length) remarks.show("filter", t("filter.marked_here"), []);
    },
    say,
  });
  const remarks = new Remarks(root, {
    written: () => writing.written,
    isRunning: () => generation.isRunning,
    stop: () => generation.stop(),
    generate: (at) => generation.generate({ at }),
    focus: () => sheet.focus(),
    say,
  });
  const drawer = makeDrawer(button("controls"));

  // ---- the text

  function render() {
    sheet.render(writing.written.pieces);
    if (unread.end) sheet.showUnread(unread.end);
    if (generation?.marked.length) sheet.showMarked(generation.marked);
    tokens.paint();
  }

  function changed() {
    render();
    showButtons();
    scheduleCount();
    sessions.current.tree.follow(writing.written.text);
    sessions.scheduleSave();
    remarks.textChanged();
    emit("written", writing.latestWords);
  }

  /** @param {"undo" | "redo"} direction */
  function walk(direction) {
    if (writing.walk(direction)) say(t(direction === "undo" ? "editor.undone" : "editor.redone"));
  }

  /** @param {string | {text: string, words: string}} given */
  function replaceAll(given) {
    if (writing.replaceAll(given) && typeof given !== "string" && given.words) lastEnd = null;
  }

  on("text", replaceAll);
  on("open", (id) => {
    if (generation.isRunning) return;
    hideNotice();
    writing.openNode(id);
  });
  on("replay", ({ prompt, controls }) => {
    if (generation.isRunning) return;
    if (!writing.written.text.startsWith(prompt)) replaceAll(prompt);
    generation.generate({ at: prompt.length, controls });
  });
  on("take", (text) => {
    if (generation.isRunning) return;
    if (writing.take(text)) {
      hideNotice();
      say(t("editor.taken"));
    } else {
      showNotice(t("editor.not_taken"));
    }
  });
  on("session", () => {
    writing.openSession();
    lastEnd = counted = null;
    hideNotice();
    changed();
    showStatus();
  });
  on("aside", ({ message, controls }) => {
    const undo = () => {
      remarks.hide();
      if (generation.isRunning) return;
      useControls(controls);
      walk("undo");
      sheet.focus();
    };
    remarks.show("step", message, [[t("common.undo"), undo]]);
  });
  state.lastRun = () => writing.lastRun;

  // ---- length

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let countTimer;
  function scheduleCount() {
    clearTimeout(countTimer);
    if (generation.isRunning) return;
    showStatus();
    countTimer = setTimeout(count, COUNT_PAUSE_MS);
  }

  async function count() {
    const { text } = writing.written;
    const answer = await server.count_tokens(text).catch(() => null); // the next change asks again
    if (!answer || generation.isRunning || text !== writing.written.text) return;
    counted = answer;
    showStatus();
    lookAtWindow();
  }

  // If `truncate` is left: how much of the beginning is dropped with the present max_new_tokens.
  async function lookAtWindow(text = writing.written.text) {
    const { truncate, max_new_tokens } = state.controls;
    const length = Number(max_new_tokens);
    const context = state.status?.context_length;
    const most = context && context - Math.min(length, Math.floor(context / 2));
    const look = (windowLook += 1);
    let found = { tokens: 0, end: 0 };
    if (truncate === "left" && most && (generation.isRunning || (counted?.tokens ?? 0) > most)) {
      found = await server.unread({ text, max_new_tokens: length }).catch(() => null); // the next change asks again
      if (!found || look !== windowLook || !writing.written.text.startsWith(text)) return;
    }
    unread = found;
    sheet.showUnread(unread.end);
    showStatus();
  }

  // ---- buttons, status, messages

  function showButtons() {
    const { isRunning } = generation;
    const { written } = writing;
    button("undo").disabled = isRunning || !written.canUndo;
    button("redo").disabled = isRunning || !written.canRedo;
    button("retry").disabled = isRunning || written.lastRunStart < 0;
    setText($('[data-action="generate"] .name'), t(written.lastRunStart < 0 ? "editor.generate" : "editor.continue"));
  }

  /** @param {boolean} isRunning */
  function showRunning(isRunning) {
    sheet.area.readOnly = isRunning;
    swapButtons(button(isRunning ? "generate" : "stop"), button(isRunning ? "stop" : "generate"));
    root.classList.toggle("is-running", isRunning);
  }

  function showStatus() {
    const { isRunning, progress } = generation;
    const context = state.status?.context_length;
    const read = isRunning ? progress.promptTokens : undefined;
    const length = read === undefined ? counted?.tokens : read + progress.tokens;
    const hasLength = typeof length === "number";
    setText($(".count"), hasLength ? describeCount(length, context, { isRunning, unread: unread.tokens }) : (counted?.message ?? ""));
    if (hasLength) $(".count").classList.toggle("is-full", Boolean(context) && length >= (context ?? 0) && !unread.tokens);
    const run = isRunning ? describeRunning(progress, state.status) : lastEnd ? describeEnd(lastEnd) : "";
    setText($(".run"), run);
    button("keep-seed").hidden = isRunning || !lastEnd;
    if (lastEnd) setText(button("keep-seed"), t("run.seed", { seed: String(lastEnd.seed) }));
    const hint = isRunning || isHealing ? "" : (counted?.hint ? told(counted.hint) : "");
    setText($(".hint"), hint);
    button("heal").hidden = !hint;
  }

  /** For screen readers. @param {string} text */
  function say(text) {
    $('.sr-only[role="status"]').textContent = text;
  }

  /** @param {string} message @param {string} [control] the name of the one that is wrong */
  function showNotice(message, control) {
    hideNotice();
    $(".notice").hidden = false;
    $(".notice p").textContent = message;
    if (!control) return;
    // a control in a closed group is on the page only when that is open
    const closed = document.querySelector(`.holds-${control} > button:not(.open)`);
    if (closed instanceof HTMLElement) closed.click();
    requestAnimationFrame(() => document.getElementById(`control-${control}`)?.setAttribute("data-wrong", ""));
  }

  function hideNotice() {
    $(".notice").hidden = true;
    document.querySelectorAll(".control[data-wrong]").forEach((node) => node.removeAttribute("data-wrong"));
  }

  on("notice", (message) => showNotice(message));
  on("keeping", (message) => message && showNotice(message));

  /** @type {number | undefined} */
  let context;
  on("status", (status) => {
    if (context !== status.context_length) scheduleCount();
    context = status.context_length;
    showStatus();
    generation.resume();
  });
  on("controls", (values) => {
    several.hidden = values.n === undefined;
    const n = String(values.n);
    if (!Array.from(several.options).some(({ value }) => value === n)) several.add(new Option(`× ${n}`, n));
    several.value = n;
    isHealing = values.token_healing === true;
    showStatus();
    if (!generation.isRunning) lookAtWindow();
  });
  on("use-controls", () => trigger("use_controls"));
  keepControls();
  watch("value", () => generation.receive(props.value));

  // ---- input

  several.addEventListener("change", () => useControls({ n: Number(several.value) }));
  onPress(element, {
    generate: () => generation.generate(),
    stop: () => generation.stop(),
    retry: () => generation.generate({ retry: true }),
    undo: () => walk("undo"),
    redo: () => walk("redo"),
    dismiss: hideNotice,
    "dismiss-aside": () => remarks.dismiss(),
    tokens() {
      tokens.toggle();
      button("tokens").setAttribute("aria-pressed", String(tokens.isOn));
    },
    heal: () => useControls({ token_healing: true }),
    "keep-seed": () => useControls({ seed: String(lastEnd.seed) }),
    controls: drawer.toggle,
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "write") return;
    if (isRunKey(event)) {
      event.preventDefault();
      generation.generate();
    } else if (event.key === "Escape" && generation.isRunning) {
      event.preventDefault();
      generation.stop();
    } else if (event.key === "Escape") {
      drawer.close();
    } else if ((event.ctrlKey || event.metaKey) && !event.altKey && event.target === sheet.area) {
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      walk(key === "y" || event.shiftKey ? "redo" : "undo");
    }
  });

  showRunKey(element);
  sheet.area.value = writing.written.text;
  root.dataset.ready = "";
  changed();
  showStatus();
  if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body) {
    const { length } = sheet.area.value;
    sheet.focus();
    sheet.select([length, length]);
  }
}
