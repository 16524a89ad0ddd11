// Sharing what is on the screen, and opening what others shared. The buttons stand in the editor
// (data-share); what a link brought is said in the editor's .brought. Whatever a link holds is put on the
// page as text.

import { emit, on } from "../core/events.js";
import { number, plural, shorten as shortenTo } from "../core/format.js";
import { LINK_MARK, MAX_LINK, UnreadableLink, fingerprint, makeLink, readLink } from "../core/link.js";
import { isInitial, state, useControls } from "../core/state.js";
import { make } from "./dom.js";

const LOAD_PAUSE_MS = 50;
const COPIED_MS = 2000;
const SHOWN_CHARACTERS = 40;

export function mount({ element, props, server }) {
  const MODEL_PARTS = {
    name: "the model",
    revision: "its revision",
    precision: "the precision",
    device: "the machine",
    software: "the version of the playground",
  };

  const $ = (selector) => element.querySelector(selector);
  const editor = (selector) => document.querySelector(`#editor ${selector}`);

  let run = null; // the editor's latest request: {prompt, controls, model, completions: [{text, end}]}
  let opened = null; // the link that is open: {content, values, wrong}
  let replaying = false;

  // ---- what is on the screen

  const characters = (n) => plural(n, "character");

  function answering() {
    const { model, software } = state.status ?? {};
    if (!model) return undefined;
    const { name, revision, precision, device_name: device } = model;
    return { name, revision, precision, device, software };
  }

  on("record", (record) => {
    if (record.event === "begin") {
      const { logprobs, ...own } = record.controls ?? {}; // that one is how the page looks, not a setting
      const controls = { ...state.controls, ...own };
      run = { prompt: record.sent, controls, model: answering(), completions: [] };
      return;
    }
    if (!run) return;
    const completion = (run.completions[record.index ?? 0] ??= { text: "", end: null });
    if (record.event === "text") completion.text += record.text;
    if (record.event === "finished") completion.end = record;
    if (record.event === "end" || record.event === "refused") ended(record.event === "refused");
  });

  // The text with the model's last words told apart from what they go on from, where they still stand as
  // they were written. A completion's own seed gives it alone, whatever stood beside it.
  function onScreen() {
    const text = editor("textarea").value;
    const index = run ? run.completions.findIndex((one) => one?.end && text === run.prompt + one.text) : -1;
    if (index < 0) {
      const isOpened = opened && text === opened.content.text + (opened.content.words ?? "");
      return isOpened ? { ...opened.content, controls: opened.values } : { text, controls: state.controls };
    }
    const { text: words, end } = run.completions[index];
    const alone = { seed: String(end.seed), n: 1, best_of: "" };
    const content = { text: run.prompt, words, controls: { ...run.controls, ...alone }, model: run.model };
    if (run.completions.length > 1) content.of = [index + 1, run.completions.length];
    if (end.reason === "cancelled") content.ended = "cancelled";
    return content;
  }

  function changedControls(controls) {
    const changed = props.table.filter(({ name, initial }) => name in controls && !isInitial(controls[name], initial));
    return Object.fromEntries(changed.map(({ name }) => [name, controls[name]]));
  }

  const labelOf = (name) => props.table.find((control) => control.name === name)?.label ?? name;

  function describeControls(controls) {
    return Object.entries(controls).map(([name, value]) => {
      const shown = value === true ? "on" : value === false ? "off" : shorten(String(value).replaceAll("\n", " ⏎ "));
      return `${labelOf(name)} ${shown}`;
    });
  }

  const shorten = (text) => shortenTo(text, SHOWN_CHARACTERS);

  const listed = (items) => (items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items.join(""));

  // ---- the menu in the editor's bar

  function showMenu(open) {
    const menu = document.getElementById("share-menu");
    menu.hidden = !open;
    document.querySelector('[data-share="menu"]').setAttribute("aria-expanded", String(open));
    if (open) menu.querySelector("button").focus();
  }

  const isMenuOpen = () => document.getElementById("share-menu")?.hidden === false;

  // The focus goes back to the menu's button when the dialog closes.
  function openDialog(dialog) {
    showMenu(false);
    document.querySelector('[data-share="menu"]').focus();
    dialog.showModal();
  }

  const actions = {
    menu: () => showMenu(!isMenuOpen()),
    link: shareLink,
    code: viewCode,
    close: (button) => button.closest("dialog").close(),
    "copy-link": (button) => copy($(".address input").value, button, () => $(".address input").select()),
    "copy-code": (button) => copy($(".code code").textContent, button, () => getSelection().selectAllChildren($(".code code"))),
    replay: startReplay,
    forget: forget,
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-share]");
    if (button && !button.disabled) actions[button.dataset.share](button);
    if (isMenuOpen() && !event.target.closest(".more")) showMenu(false);
    if (event.target.matches?.("dialog.share-dialog")) event.target.close(); // beside it
  });

  document.addEventListener("keydown", (event) => {
    if (!isMenuOpen()) return;
    const items = [...document.querySelectorAll("#share-menu button")];
    const at = items.indexOf(document.activeElement);
    if (event.key === "Escape") {
      showMenu(false);
      document.querySelector('[data-share="menu"]').focus();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      items[(at + (event.key === "ArrowDown" ? 1 : items.length - 1)) % items.length].focus();
    }
  });

  async function copy(text, button, select) {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      select(); // without a secure connection there is no clipboard to write to
      done = document.execCommand("copy");
    }
    const name = done ? "Copied" : "Press Ctrl+C";
    button.textContent = name;
    $('[role="status"]').textContent = name;
    clearTimeout(button.timer);
    button.timer = setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  }

  // ---- a link

  async function shareLink() {
    const dialog = $("#share-link");
    const content = onScreen();
    content.controls = changedControls(content.controls);
    openDialog(dialog);
    const field = $(".address input");
    try {
      const { address, content: kept, left } = await makeLink(content, location.origin + location.pathname);
      $(".holds").textContent = describeLink(kept);
      const lacks = describeLeft(left);
      $(".left-out").textContent = lacks;
      $(".left-out").hidden = !lacks;
      field.value = address;
      field.focus();
      field.select();
      field.scrollLeft = 0;
      copy(address, $('[data-share="copy-link"]'), () => field.select());
    } catch {
      field.value = "";
      $(".holds").textContent = "This browser cannot make links: it is older than they need (CompressionStream).";
    }
  }

  function describeLink({ text, words, hash, length, controls, of, model }) {
    const parts = [`the beginning (${characters(text.length)})`];
    if (words !== undefined) parts.push(`what the model wrote (${characters(words.length)})`);
    const names = describeControls(controls);
    parts.push(names.length ? `the settings (${names.join(", ")})` : "the settings, which are the usual ones");
    const alone = of ? ` It is completion ${of[0]} of ${of[1]}, with the seed that gives it alone.` : "";
    const canReplay = words !== undefined || hash !== undefined;
    const replay = canReplay
      ? ` Whoever opens it can replay it, and sees whether ${model?.name ?? "the model"} writes the same words again.`
      : editor(".by-model")
        ? " It cannot be replayed: the text was changed after the model's last words, or the page loaded anew."
        : "";
    return `It holds ${listed(parts)}.${alone}${replay}`;
  }

  function describeLeft({ words, settings, characters: cut }) {
    if (cut || settings.length) {
      const parts = [];
      if (cut) parts.push(`the first ${characters(cut)} of the text`);
      if (settings.length) parts.push(listed(settings.map(labelOf)));
      return `Not in it, for a link has at most ${number(MAX_LINK)} characters: ${listed(parts)}. So it cannot be replayed.`;
    }
    return words
      ? `The model's words are not in it, for a link has at most ${number(MAX_LINK)} characters. A replay writes them anew, and can tell whether they are the same.`
      : "";
  }

  // ---- code

  let code = null; // the snippets on the screen, or {message}
  let way = null; // the name of the one that is looked at
  let asked = 0;

  function viewCode() {
    const screen = onScreen();
    $(".which-words").hidden = screen.words === undefined;
    $(`.which-words [value="${screen.words === undefined ? "next" : "last"}"]`).checked = true;
    openDialog($("#share-code"));
    writeCode();
  }

  async function writeCode() {
    const last = $('.which-words [value="last"]').checked;
    const { text, controls } = last ? onScreen() : { text: editor("textarea").value, controls: state.controls };
    const address = (location.origin + location.pathname).replace(/\/+$/, "");
    const number = (asked += 1);
    const answer = await server
      .write_code({ prompt: text, controls: changedControls(controls), address })
      .catch(() => ({ message: "The playground does not answer. Try again when the connection is back." }));
    if (number === asked) showCode(answer);
  }

  function showCode(answer) {
    code = answer;
    const snippets = answer.snippets ?? [];
    $(".code-tabs").replaceChildren(
      ...snippets.map(({ name, label }) => {
        const tab = make("button", "", label);
        tab.type = "button";
        tab.id = `share-way-${name}`;
        tab.dataset.way = name;
        tab.setAttribute("role", "tab");
        tab.setAttribute("aria-controls", "share-snippet");
        return tab;
      }),
    );
    $('[data-share="copy-code"]').disabled = !snippets.length;
    if (!snippets.length) {
      $(".code code").textContent = answer.message ?? "There is no code.";
      return;
    }
    if (!snippets.some(({ name }) => name === way)) way = snippets[0].name;
    showWay(way);
  }

  function showWay(name) {
    way = name;
    for (const tab of $(".code-tabs").children) {
      const chosen = tab.dataset.way === name;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    $(".code").setAttribute("aria-labelledby", `share-way-${name}`);
    $(".code code").textContent = code.snippets.find((one) => one.name === name).code;
    $(".code").scrollTo(0, 0);
    $("#share-code .quiet-note").textContent =
      name === "transformers"
        ? "Runs without this playground. What transformers cannot do is said in a comment."
        : "Asks this playground. Settings that are not in it are at their defaults.";
  }

  $(".code-tabs").addEventListener("click", ({ target }) => target.dataset.way && showWay(target.dataset.way));
  $(".code-tabs").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const tabs = [...$(".code-tabs").children];
    const at = tabs.findIndex((tab) => tab.dataset.way === way);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    showWay(next.dataset.way);
    next.focus();
  });
  $(".which-words").addEventListener("change", writeCode);

  // ---- opening a link

  async function openLink() {
    if (!location.hash.startsWith(LINK_MARK)) return;
    if (!editor(".editor[data-ready]") || !Object.keys(state.controls).length || editor(".is-running")) {
      setTimeout(openLink, LOAD_PAUSE_MS); // the page is being built, or the model is writing
      return;
    }
    const { hash } = location;
    try {
      const content = await readLink(hash);
      const answer = await server.check_settings(content.controls).catch(() => {
        throw new UnreadableLink("The playground does not answer, so the link was not opened. Reload the page to try again.");
      });
      if (location.hash !== hash || editor(".is-running")) return openLink();
      clearAddress();
      bring(content, answer);
    } catch (error) {
      if (!(error instanceof UnreadableLink)) throw error;
      forget();
      emit("notice", error.message);
      if (!error.message.includes("Reload")) clearAddress();
    }
  }

  // A reload keeps what was made of the text since; the link does not come over it again.
  function clearAddress() {
    history.replaceState(history.state, "", location.pathname + location.search);
  }

  function bring(content, { values, problems, wrong }) {
    const own = editor("textarea").value;
    const all = content.text + (content.words ?? "");
    opened = { content, values, wrong };
    useControls(values);
    emit("text", { text: content.text, words: content.words ?? "" });
    const parts = [characters(content.text.length)];
    if (content.words) parts[0] += ` to begin with, and ${characters(content.words.length)} by the model`;
    const settings = describeControls(changedControls(values));
    const said = [
      `From a link: ${parts[0]}.`,
      settings.length ? `Set: ${settings.join(", ")}.` : "All settings are the usual ones.",
    ];
    if (content.model?.name) said.push(`Written by ${shorten(content.model.name)}${content.model.precision ? `, ${shorten(content.model.precision)}` : ""}.`);
    if (own && own !== all) said.push("Undo brings your own text back.");
    say(said.join(" "), { canReplay: content.words !== undefined || content.hash !== undefined });
    if (problems.length) emit("notice", `Of the link's settings some could not be used and have their defaults. ${problems.join(" ")}`);
  }

  // ---- what a link brought, and its replay

  function say(text, { canReplay = false, kind = "" } = {}) {
    const place = editor(".brought");
    place.replaceChildren();
    place.dataset.kind = kind;
    place.appendChild(make("p", "", text));
    if (canReplay) {
      const button = place.appendChild(make("button", "", "Replay and compare"));
      button.type = "button";
      button.dataset.share = "replay";
      button.title = "Let the model write the words of the link again, and compare.";
    }
    const close = place.appendChild(make("button", "quiet", "✕"));
    close.type = "button";
    close.dataset.share = "forget";
    close.setAttribute("aria-label", "Dismiss what the link brought");
    place.hidden = false;
  }

  function forget() {
    opened = null;
    replaying = false;
    const place = editor(".brought");
    if (place) place.hidden = true;
  }

  function startReplay() {
    if (!opened || editor(".is-running")) return;
    replaying = true;
    useControls(opened.values);
    say("Replaying…");
    const { logprobs, echo, ...controls } = opened.values; // those two change no word
    emit("replay", { prompt: opened.content.text, controls });
  }

  function ended(isRefused) {
    if (!replaying || !opened) return;
    replaying = false;
    const completion = run.completions[0];
    if (isRefused || !completion?.end || completion.end.reason === "error") {
      say("The replay could not be run to its end. The words of the link are in Undo.", { canReplay: true, kind: "differs" });
      return;
    }
    judge(completion.text, completion.end);
  }

  function judge(mine, end) {
    const { content } = opened;
    const { words } = content;
    const length = words === undefined ? content.length : words.length;
    const matches = (text) => (words === undefined ? fingerprint(text) === content.hash : text === words);
    if (mine.length === length && matches(mine)) {
      say(`Identical: the replay wrote the same ${characters(length)}.`, { kind: "identical" });
    } else if (mine.length > length && matches(mine.slice(0, length))) {
      const why = content.ended === "cancelled" ? " The link's words had been stopped by hand." : because();
      say(`Identical as far as the link goes, ${characters(length)}; the replay went on.${why}`, { kind: "identical" });
    } else if (mine && words?.startsWith(mine)) {
      const why = end.reason === "cancelled" ? " The replay was stopped." : because();
      say(`The same words as far as the replay went, ${number(mine.length)} of ${characters(length)}.${why}`, { canReplay: true, kind: "differs" });
    } else {
      say(`Not the same words.${whereItDiffers(words, mine)}${because()} Undo brings the link's words back.`, { canReplay: true, kind: "differs" });
    }
  }

  function whereItDiffers(words, mine) {
    if (words === undefined) return "";
    let at = 0;
    while (at < words.length && at < mine.length && words[at] === mine[at]) at += 1;
    const same = at ? `The first ${characters(at)} are the same; then the` : "From the first character on the";
    const piece = (text) => (text.length > at ? `“${shorten(text.slice(at)).replaceAll("\n", "⏎")}”` : "its end");
    return ` ${same} link has ${piece(words)} and the replay ${piece(mine)}.`;
  }

  // Why words can differ, as far as that can be known.
  function because() {
    const { content, wrong } = opened;
    const here = run.model ?? {};
    const there = content.model ?? {};
    const reasons = [];
    for (const [part, called] of Object.entries(MODEL_PARTS)) {
      if (there[part] === undefined || (there[part] ?? null) === (here[part] ?? null)) continue;
      const values = part === "software" ? "" : ` (${shorten(there[part] ?? "none")} there, ${shorten(here[part] ?? "none")} here)`;
      reasons.push(`${called}${values}`);
    }
    for (const name of wrong) reasons.push(`the setting ${labelOf(name)}, which the link gives a value it cannot have`);
    if (reasons.length) return ` Different is ${listed(reasons)}.`;
    if (!content.model) return " The link does not say which model wrote its words.";
    const isExact = here.precision === "float32" && state.status?.model?.device === "cpu";
    return isExact
      ? " Model, precision and version are those that the link names: so its words, text or settings were changed after they were written."
      : " Model, precision and version are those that the link names; in this precision or on this machine the last digits of a probability depend on what runs beside it, and now and then a word with them.";
  }

  window.addEventListener("hashchange", openLink);
  openLink();
}
