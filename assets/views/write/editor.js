// The editor: one text that a person and the model write in turns, with buttons, status line and messages.
// The text is in sheet.js and writing.js, the model's turn in generation.js.

import { bringIntoView, finder, isComposing, isDialogOpen, isRunKey, isTextField, onPress, setText, showRunKey, swapButtons, undoOrRedo, update } from "../../components/dom.js";
import { leaveOut as leaveOutBy } from "../../components/notice.js";
import { shownView } from "../../components/page.js";
import { tail as endOf } from "../../core/characters.js";
import { emit, on } from "../../core/events.js";
import { messageText, t } from "../../core/i18n.js";
import { TOO_LONG } from "../../core/long_text.js";
import * as pending from "../../core/pending.js";
import { sessions } from "../../core/sessions.js";
import { countWords } from "../../core/text_file.js";
import { state, useControls } from "../../core/state.js";
import { offerAtCaret } from "./at_caret.js";
import { writeLabel } from "./dialogue.js";
import { makeDrawer } from "./drawer.js";
import { makeFileMenu } from "./file_menu.js";
import { Generation } from "./generation.js";
import { MemoryPanel } from "./memory.js";
import { Notice } from "./notice.js";
import { ReadWindow } from "./read_window.js";
import { Remarks } from "./remarks.js";
import { keepControls } from "./session_controls.js";
import { Sheet } from "./sheet.js";
import { describeCount, describeDrafts, describeEnd, describeRunning } from "./status.js";
import { TokenView } from "./tokens.js";
import { TypedAhead } from "./typed_ahead.js";
import { Writing } from "./writing.js";

const COUNT_PAUSE_MS = 250;
const KEPT_ENDS = 20;
const SHOWN_AHEAD = 24; // of what was typed while the model writes

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const $ = finder(element);
  const root = $(".editor");
  const button = (/** @type {string} */ action) => $(`[data-action="${action}"]`, HTMLButtonElement);
  const several = $('[data-control="n"]', HTMLSelectElement);

  const ends = /** @type {Map<string, any>} */ (new Map()); // how requests ended, by the texts that they made
  /** @type {{text: string, tokens: number | null, hint?: ServerMessage | null, message?: string} | null} */
  let counted = null; // the last token count, and its text
  let isHealing = false; // whether the controls turn token healing on

  const sheet = new Sheet(root);
  const unread = new ReadWindow({
    ask: (question) => server.unread(question),
    show() {
      sheet.showUnread(unread.end);
      showStatus();
    },
  });
  const writing = new Writing(sheet, { changed, isLocked: () => generation.isRunning });
  const tokens = new TokenView({
    root,
    sheet,
    text: () => writing.written.text,
    goOn: (at, text, length, token) => generation.goOnFrom(at, text, length, token),
    server,
  });
  const generation = new Generation({ server, trigger }, writing, tokens, {
    begun() {
      const { text } = writing.written;
      if (ends.get(text)?.isEmpty) ends.delete(text); // the end of a request that wrote nothing
      notice.hide();
      remarks.hide();
      showRunning(true);
      changed();
      showStatus();
    },
    progress() {
      showToEnd(); // first: it measures the layout, which showStatus changes
      showStatus();
    },
    wrote() {
      render();
      if (!generation.rest) remarks.lookForLoop(); // it checks only the end of the text
    },
    dropped: lookAtWindow,
    lost: (message) => notice.show(message),
    ended(end, all) {
      showRunning(false);
      for (const one of all) keepEnd(one);
      const tokens = end.prompt_tokens + end.completion_tokens - memory.tokens;
      if (!end.failed && !end.isCut && !generation.rest) counted = { text: writing.written.text, tokens }; // until the next count
      changed();
      if (end.reason === "stop" && all.length === 1 && !generation.rest && writeLabel(writing, "visitor")) keepEnd({ ...all[0], text: writing.written.text });
      ahead.putIn(); // before the messages, which are about the text as it is then
      if (end.failed) {
        notice.show(end.message, end.control, TOO_LONG.includes(end.code) ? leaveOut() : []);
        emit("refresh-status");
      } else if (end.reason === "unmet") notice.show(end.message, "must_match");
      showStatus();
      remarks.runEnded();
      if (end.code === "end.context" && !remarks.shown) remarks.show("full", t("editor.context_full"), leaveOut());
      if (end.code === "text.joined" && generation.marked.length) remarks.show("filter", t("filter.marked_here"), []);
    },
    say,
  });
  const notice = new Notice(root, { text: () => writing.written.text });
  const remarks = new Remarks(root, {
    written: () => writing.written,
    isRunning: () => generation.isRunning,
    stop: () => generation.stop(),
    generate: (at) => generation.generate({ at }),
    focus: () => sheet.focus(),
    say,
  });
  const ahead = new TypedAhead(sheet.area, {
    isLocked: () => generation.isRunning,
    changed: showStatus,
    insert(words) {
      const { text } = writing.written;
      const rest = pending.insertTyped(sessions.current.id, words) ?? generation.request?.rest ?? "";
      writing.insertAt(text.endsWith(rest) ? text.length - rest.length : text.length, words);
    },
  });
  const drawer = makeDrawer(button("controls"));
  const memory = new MemoryPanel(element, sheet, { count: (text) => server.count_tokens(text), changed: scheduleCount });
  const atCaret = offerAtCaret(root, sheet.area, {
    isRunning: () => generation.isRunning,
    write: (at, fills) => generation.generate({ at, rest: writing.written.text.slice(at), fills }),
  });

  // ---- the text

  function render() {
    sheet.render(writing.written.pieces);
    if (unread.end) sheet.showUnread(unread.end);
    if (generation?.marked.length) sheet.showMarked(generation.marked);
    tokens.paint();
  }

  function changed() {
    notice.textChanged();
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

  on("text", (given) => {
    if (generation.isRunning) return notice.show(t("branches.wait"));
    writing.replaceAll(given);
  });
  on("to-start", () => sheet.toStart());
  on("walk", walk);
  on("open", (id) => {
    if (generation.isRunning) return;
    notice.hide();
    writing.openNode(id);
  });
  on("replay", ({ prompt, controls }) => {
    if (generation.isRunning) return;
    if (!writing.written.text.startsWith(prompt)) writing.replaceAll(prompt);
    generation.generate({ at: prompt.length, controls, ending: "" });
  });
  on("take", (text) => {
    if (generation.isRunning) return;
    if (writing.take(text)) {
      notice.hide();
      say(t("editor.taken"));
    } else {
      notice.show(t("editor.not_taken"));
    }
  });
  on("session", () => {
    writing.openSession();
    ends.clear();
    counted = null;
    notice.hide();
    changed();
    showStatus();
  });
  on("aside", ({ message, controls, putBack }) => {
    const undo = () => {
      remarks.hide();
      if (putBack) return putBack();
      if (generation.isRunning) return;
      useControls(controls);
      walk("undo");
      sheet.focus();
    };
    remarks.show("step", message, controls || putBack ? [[t("common.undo"), undo]] : []);
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
    counted = { ...answer, text };
    showStatus();
    lookAtWindow();
  }

  function lookAtWindow(text = writing.written.text) {
    const tokens = generation.isRunning ? Infinity : (counted?.tokens ?? 0) + memory.tokens;
    unread.look(text, tokens, () => writing.written.text);
  }

  // ---- buttons, status, messages

  function showButtons() {
    const { isRunning } = generation;
    const { written } = writing;
    button("undo").disabled = isRunning || !written.canUndo;
    button("redo").disabled = isRunning || !written.canRedo;
    button("retry").disabled = isRunning || !written.latestPlace;
    setText($('[data-action="generate"] .name'), t(written.endsWithModel ? "editor.continue" : "editor.generate"));
  }

  // Shown while words arrive outside the visible part of the sheet.
  function showToEnd() {
    update($(".to-end"), { hidden: !generation.isRunning || sheet.isAtEnd || Boolean(generation.rest) });
  }

  /** @param {boolean} isRunning */
  function showRunning(isRunning) {
    if (isRunning) bringIntoView(sheet.box);
    showToEnd();
    sheet.area.readOnly = isRunning;
    swapButtons(button(isRunning ? "generate" : "stop"), button(isRunning ? "stop" : "generate"));
    root.classList.toggle("is-running", isRunning);
  }

  /** @param {{text: string, end: any}} ended */
  function keepEnd({ text, end }) {
    ends.delete(text);
    ends.set(text, end);
    const [oldest] = ends.keys();
    if (ends.size > KEPT_ENDS) ends.delete(oldest);
  }

  const shownEnd = () => (generation.isRunning ? undefined : ends.get(writing.written.text));

  // Parts that are not about the present text are hidden or marked as stale.
  function showStatus() {
    const { isRunning, progress } = generation;
    const end = shownEnd();
    const known = counted?.text === writing.written.text ? counted : null;
    const context = state.status?.context_length;
    const read = isRunning ? progress.promptTokens : undefined;
    const ownLength = known && known.tokens !== null ? known.tokens + memory.tokens : known?.tokens;
    const length = read === undefined ? ownLength : read + progress.tokens;
    const hasLength = typeof length === "number";
    const isKnown = hasLength || Boolean(known?.message);
    for (const part of [".count", ".words"]) $(part).classList.toggle("is-stale", !isKnown || (isRunning && part === ".words")); // it keeps its place until the next count
    if (isKnown && unread.isCut && !isRunning) setText($(".count"), t("editor.unread_characters", { characters: t("count.characters", { count: unread.end }) }));
    else if (isKnown) setText($(".count"), hasLength ? describeCount(length, context, { isRunning, unread: unread.tokens }) : (known?.message ?? ""));
    if (isKnown && !isRunning) setText($(".words"), t("count.words", { count: countWords(writing.written.text) }));
    if (hasLength) $(".count").classList.toggle("is-full", Boolean(context) && length >= (context ?? 0) && !unread.end);
    const run = isRunning ? describeRunning(progress, state.status) : end ? describeEnd(end) : "";
    setText($(".run"), run);
    update($(".run"), { title: end ? describeDrafts(end) : "" });
    update(button("keep-seed"), { hidden: !end });
    if (end) setText(button("keep-seed"), t("run.seed", { seed: String(end.seed) }));
    atCaret.show();
    const hint = isRunning || isHealing || !known?.hint ? "" : messageText(known.hint);
    setText($(".hint"), ahead.text ? t("editor.typed_ahead", { text: endOf(ahead.text, SHOWN_AHEAD) }) : hint);
    update($(".hint"), { title: hint });
    update(button("heal"), { hidden: !hint });
  }

  /** For screen readers. @param {string} text */
  function say(text) {
    $('.sr-only[role="status"]').textContent = text;
  }

  /** The actions for a text that exceeds the context. */
  function leaveOut() {
    return leaveOutBy(() => {
      remarks.hide();
      generation.leaveOutBeginning();
    });
  }

  on("notice", (message) => (message ? notice.show(message) : notice.hide()));
  on("keeping", (message) => {
    $(".storage").hidden = !message;
    setText($(".storage p"), message);
  });

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
  makeFileMenu(root, sheet, { isLocked: () => generation.isRunning, say, openMemory: () => memory.open() });
  watch("value", () => generation.receive(props.value));

  // ---- input

  several.addEventListener("change", () => useControls({ n: Number(several.value) }));
  onPress(element, {
    generate: () => generation.generate(),
    stop: () => generation.stop(),
    retry: () => generation.generate({ retry: true }),
    "to-end"() {
      sheet.toEnd();
      showToEnd();
    },
    undo: () => walk("undo"),
    redo: () => walk("redo"),
    dismiss() {
      notice.hide();
      if (generation.saidLost) pending.drop();
    },
    "dismiss-aside": () => remarks.dismiss(),
    tokens() {
      tokens.toggle();
      button("tokens").setAttribute("aria-pressed", String(tokens.isOn));
    },
    heal: () => useControls({ token_healing: true }),
    "keep-seed": () => useControls({ seed: String(shownEnd().seed) }),
    controls: drawer.toggle,
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "write" || isDialogOpen() || isComposing(event)) return;
    if (isRunKey(event)) {
      event.preventDefault();
      generation.generate();
    } else if (event.key === "Escape" && generation.isRunning) {
      event.preventDefault();
      generation.stop();
    } else if (event.key === "Escape") {
      drawer.close();
    } else if (event.target === sheet.area || !isTextField(event.target)) {
      const direction = undoOrRedo(event);
      if (!direction) return;
      event.preventDefault();
      walk(direction > 0 ? "redo" : "undo");
    }
  });

  sheet.scrolled = showToEnd;
  showRunKey(element);
  sheet.area.value = writing.written.text;
  root.dataset.ready = "";
  changed();
  showStatus();
  ahead.putIn(); // typed before a reload
  if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body) {
    const { length } = sheet.area.value;
    sheet.focus();
    sheet.select([length, length]);
  }
}
