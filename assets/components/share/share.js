// Shares the screen and opens shared links. The buttons are in the editor (data-share); messages about an
// opened link are in the editor's .brought. A link's content is untrusted and is shown as text only.

import { emit, on } from "../../core/events.js";
import { labelOf, messageText, t } from "../../core/i18n.js";
import { LINK_MARK, UnreadableLink, makeLink, readLink } from "../../core/link.js";
import { sessions } from "../../core/sessions.js";
import { isInitial, state, useControls } from "../../core/state.js";
import { copyText, editorsField, finder, make, makeButton, onPress } from "../dom.js";
import { CodeDialog } from "./code.js";
import { characters, describeControls, describeLeft, describeLink, judge, shorten, whyItMayDiffer } from "./describe.js";
import { isMenuOpen, openDialog, showMenu } from "./menu.js";

const LOAD_PAUSE_MS = 50;
const COPIED_MS = 2000;
const OWN_HOST = /^(localhost|127\.[\d.]+|\[::1\])$/;

/** @param {string} selector */
const inEditor = (selector) => /** @type {HTMLElement | null} */ (document.querySelector(`#editor ${selector}`));
const editorsText = () => editorsField()?.value ?? "";
const isSame = (/** @type {any} */ one, /** @type {any} */ other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
const isWriting = () => Boolean(inEditor(".is-running"));

/** @param {Component} component */
export function mount({ element, props, server }) {
  const $ = finder(element);
  const table = /** @type {{name: string, label: string, initial: any}[]} */ (props.table);

  /** @type {{prompt: string, controls: Controls, memory: any, model: any, completions: {text: string, end: any}[]} | null} */
  let run = null; // the editor's latest request
  /** @type {{content: LinkContent, values: Controls, wrong: string[]} | null} */
  let opened = null; // the link that is open
  let isReplaying = false;

  // ---- what is on the screen

  function answering() {
    const { model, software } = state.status ?? {};
    if (!model) return undefined;
    const { name, revision, precision, device_name: device } = model;
    return { name, revision, precision, device, software };
  }

  on("record", (record) => {
    if (record.event === "begin") {
      const { logprobs: _, ...own } = record.controls ?? {}; // affects the page only
      run = { prompt: record.sent, controls: { ...state.controls, ...own }, memory: sessions.current.memory, model: answering(), completions: [] };
      return;
    }
    if (!run) return;
    const completion = (run.completions[record.index ?? 0] ??= { text: "", end: null });
    if (record.event === "text") completion.text += record.text;
    if (record.event === "cut") completion.text = completion.text.slice(0, completion.text.length - record.length);
    if (record.event === "finished") completion.end = record;
    if (record.event === "end" || record.event === "refused") ended(record.event === "refused");
  });

  // The text, split into prompt and the model's last words if these are unchanged. A completion's own seed
  // reproduces it without the others.
  /** @returns {LinkContent} */
  function onScreen() {
    const { memory } = sessions.current;
    return memory ? { ...textOnScreen(), memory } : textOnScreen();
  }

  /** @returns {LinkContent} */
  function textOnScreen() {
    const text = editorsText();
    const { prompt, completions, controls, model } = run ?? { prompt: "", completions: [], controls: {}, model: null };
    const { memory } = sessions.current;
    const index = isSame(run?.memory, memory) ? completions.findIndex((one) => one?.end && text === prompt + one.text) : -1;
    if (index < 0) {
      const isOpened = opened && text === opened.content.text + (opened.content.words ?? "") && isSame(opened.content.memory, memory);
      return isOpened && opened ? { ...opened.content, controls: opened.values } : { text, controls: state.controls };
    }
    const { text: words, end } = completions[index];
    const alone = { seed: String(end.seed), n: 1, best_of: "" };
    /** @type {LinkContent} */
    const content = { text: prompt, words, controls: { ...controls, ...alone }, model };
    if (completions.length > 1) content.of = [index + 1, completions.length];
    if (end.isCut) content.ended = "sentence";
    else if (end.reason === "cancelled") content.ended = "cancelled";
    return content;
  }

  /** @param {Controls} controls */
  function changedControls(controls) {
    const changed = table.filter(({ name, initial }) => name in controls && !isInitial(controls[name], initial));
    return Object.fromEntries(changed.map(({ name }) => [name, controls[name]]));
  }

  // ---- the dialogs

  const code = new CodeDialog(element, {
    screen: onScreen,
    next: () => ({ text: editorsText(), controls: state.controls }),
    ask({ text, controls }) {
      const address = (location.origin + location.pathname).replace(/\/+$/, "");
      return server.write_code({ prompt: text, controls: changedControls(controls), address });
    },
  });
  const field = $(".address input", HTMLInputElement);

  onPress(
    document,
    {
      menu: () => showMenu(!isMenuOpen()),
      link: shareLink,
      code: () => code.open(),
      close: (button) => button.closest("dialog")?.close(),
      "copy-link": (button) => copy(field.value, button, () => field.select()),
      "copy-code": (button) => copy($(".code code").textContent ?? "", button, () => getSelection()?.selectAllChildren($(".code code"))),
      replay: startReplay,
      forget,
    },
    "share",
  );

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let copied;
  /** @param {string} text @param {HTMLElement} button @param {() => void} select */
  async function copy(text, button, select) {
    const name = t((await copyText(text, select)) ? "share.copied" : "share.press_ctrl_c");
    button.textContent = name;
    $('[role="status"]').textContent = name;
    clearTimeout(copied);
    copied = setTimeout(() => (button.textContent = t("common.copy")), COPIED_MS);
  }

  async function shareLink() {
    const content = onScreen();
    content.controls = changedControls(content.controls);
    openDialog($("#share-link", HTMLDialogElement));
    try {
      const { address, content: kept, left } = await makeLink(content, location.origin + location.pathname);
      const lacks = describeLeft(left, labelOf);
      $(".holds").textContent = describeLink(kept, labelOf, Boolean(inEditor(".by-model")));
      $(".left-out").textContent = lacks;
      $(".left-out").hidden = !lacks;
      $(".only-here").hidden = !OWN_HOST.test(location.hostname);
      $(".only-here").textContent = t("share.only_here", { host: location.hostname });
      field.value = address;
      field.focus();
      field.select();
      field.scrollLeft = 0;
      copy(address, $('[data-share="copy-link"]'), () => field.select());
    } catch {
      field.value = "";
      $(".holds").textContent = t("share.old_browser");
    }
  }

  // ---- opening a link

  async function openLink() {
    const { hash } = location;
    if (!hash.startsWith(LINK_MARK)) return;
    if (!inEditor(".editor[data-ready]") || !Object.keys(state.controls).length || isWriting()) {
      setTimeout(openLink, LOAD_PAUSE_MS); // the page is not ready, or the model is writing
      return;
    }
    try {
      const content = await readLink(hash);
      if (!content) return;
      const answer = await server.check_settings(content.controls).catch(() => {
        throw new UnreadableLink(t("link.no_answer"), { canTryAgain: true });
      });
      if (location.hash !== hash || isWriting()) return openLink();
      clearAddress();
      bring(content, answer);
    } catch (error) {
      if (!(error instanceof UnreadableLink)) throw error;
      forget();
      emit("notice", error.message);
      if (!error.canTryAgain) clearAddress();
    }
  }

  // Remove the link from the address: a reload would open it again and overwrite later edits.
  function clearAddress() {
    history.replaceState(history.state, "", location.pathname + location.search);
  }

  /** @param {LinkContent} content @param {{values: Controls, problems: ServerMessage[], wrong: string[]}} checked */
  function bring(content, { values, problems, wrong }) {
    const own = editorsText();
    const { text, words = "", model, isEarlier, memory = null } = content;
    const isBlank = !own && !sessions.current.memory && !sessions.current.written.canUndo;
    const replacesMore = !isSame(sessions.current.memory, memory) || !isSame(changedControls(state.controls), changedControls(values));
    const keepsSession = !isBlank && replacesMore;
    if (keepsSession) sessions.begin(); // Undo brings a text back, but neither memory nor settings
    opened = { content, values, wrong };
    sessions.current.scaffold = null; // its controls are replaced too
    useControls(values);
    emit("memory", memory);
    emit("text", { text, words });
    const settings = describeControls(changedControls(values), labelOf);
    const said = [
      words
        ? t("share.from_link_words", { text: characters(text), words: characters(words) })
        : t("share.from_link", { text: characters(text) }),
      settings.length ? t("share.set", { settings: settings.join(t("text.comma")) }) : t("share.all_usual"),
    ];
    if (model?.name) said.push(t("share.written_by", { model: [model.name, model.precision].flatMap((one) => (one ? shorten(one) : [])).join(", ") }));
    if (isEarlier) said.push(t("share.earlier_version"));
    if (keepsSession) said.push(t("share.own_session"));
    else if (own && own !== text + words) said.push(t("share.undo_own"));
    emit("to-start"); // where a reader begins
    say({ text: said.join(" "), canReplay: content.words !== undefined || content.hash !== undefined });
    if (problems.length) emit("notice", `${t("link.problems")} ${problems.map(messageText).join(" ")}`);
  }

  // ---- an opened link and its replay

  /** @param {{text: string, canReplay?: boolean, kind?: string}} message */
  function say({ text, canReplay = false, kind = "" }) {
    const place = /** @type {HTMLElement} */ (inEditor(".brought"));
    const title = t("share.replay_title");
    const replay = makeButton("", t("share.replay"), null, { title, "data-share": "replay" });
    const close = makeButton("quiet", "✕", null, { "aria-label": t("share.dismiss"), "data-share": "forget" });
    place.dataset.kind = kind;
    const said = make("p", "", text);
    place.replaceChildren(said, ...(canReplay ? [replay] : []), close);
    place.hidden = false;
    if (said.scrollHeight > said.clientHeight) said.tabIndex = 0; // to scroll by keyboard
  }

  on("session", forget);
  // the message is about the link's text: it is shown only while the editor has that
  on("written", () => {
    if (opened) inEditor(".brought")?.toggleAttribute("hidden", !editorsText().startsWith(opened.content.text));
  });

  function forget() {
    opened = null;
    isReplaying = false;
    inEditor(".brought")?.setAttribute("hidden", "");
  }

  function startReplay() {
    if (!opened || isWriting()) return;
    isReplaying = true;
    useControls(opened.values);
    say({ text: t("share.replaying") });
    const { logprobs: _, echo: __, ...controls } = opened.values; // these two do not change the text
    emit("replay", { prompt: opened.content.text, controls });
  }

  /** @param {boolean} isRefused */
  function ended(isRefused) {
    if (!isReplaying || !opened) return;
    isReplaying = false;
    const { content, wrong } = opened;
    const { text = "", end } = run?.completions[0] ?? {};
    if (isRefused || !end || end.reason === "error") {
      say({ text: t("share.replay_failed"), canReplay: true, kind: "differs" });
      return;
    }
    const here = run?.model ?? {};
    const isExact = here.precision === "float32" && state.status?.model?.device === "cpu";
    const others = wrong.map((name) => t("share.wrong_setting", { name: labelOf(name) }));
    if (!isSame(run?.memory, content.memory)) others.unshift(t("share.the_memory"));
    say(judge(content, text, end.reason, () => whyItMayDiffer(content, here, others, isExact)));
  }

  window.addEventListener("hashchange", openLink);
  openLink();
}
