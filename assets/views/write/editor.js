// The editor on the page. A real textarea holds the text and the caret; its letters are transparent, and
// a backdrop with the same metrics shows them in the colours of who wrote them. Text of any origin gets
// there through text nodes only.

import { make } from "../../components/dom.js";
import { shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { number, plural } from "../../core/format.js";
import { newId } from "../../core/id.js";
import { LOOP_TAIL, findLoop } from "../../core/loops.js";
import { Run } from "../../core/run.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";
import { PERSON, difference, pieces } from "../../core/text.js";
import { readTokens } from "../../core/tokens.js";
import { TokenView } from "./tokens.js";

const SILENT = "The playground no longer answers. Your text is kept; try again when the connection is back.";
const COUNT_PAUSE_MS = 250;
const END_SLACK_PX = 48;
const NODE_CHARACTERS = 500; // of a text node of the ink, before it ends with a word
const SHORT_NODES = new RegExp(`[^]{1,${NODE_CHARACTERS}}\\S*\\s*`, "g");
const LOOP_LOOK_MS = 400;
const DRY_USUAL = 0.8; // see the control's help
const DRY_MOST = 5;
const QUOTE_MOST = 60; // characters of what is repeated that are shown

export function mount({ element, trigger, props, server, watch }) {
  const $ = (selector) => element.querySelector(selector);
  const sheet = $(".sheet");
  const ink = $(".ink");
  const area = $("textarea");
  const notice = $(".notice");
  const announcer = $('[role="status"]');
  const button = (action) => $(`[data-action="${action}"]`);

  let { written } = sessions.current;
  let running = null; // the request under way
  let latest = null; // the latest request that was sent: {run, prompt}
  let lastRun = null; // how the last one ended
  let model = null; // the last status heard
  let counted = null; // {tokens, message} of the text as last counted
  let composition = null; // the text before an input method began to compose
  let isHealing = false; // whether the controls turn token healing on

  let aside = null; // what the line says: {kind, text}; `text` as it stands while that is so, null while it grows
  let lookedForLoop = 0; // when
  let loopsLeftAlone = null; // the run whose loop was dismissed
  let cutWhenStopped = false;
  let unread = 0; // tokens of the beginning that are left out
  let unreadEnd = 0; // where they end, a place in the text
  let windowLook = 0; // counts the questions about them: an older one's answer is not taken

  // ---- the tokens' probabilities: assets/tokens.js

  const tokens = new TokenView({
    root: element.querySelector(".editor"),
    ink,
    area,
    sheet,
    text: () => written.text,
    labels: props.labels ?? {},
    goOn: generateFrom,
    score: (text, logprobs) => server.score({ id: newId(), text, logprobs }),
    select: (at) => select([at, at]),
    reveal,
  });

  // ---- the text on the page

  function render() {
    const spans = ink.children;
    const wanted = written.pieces;
    wanted.forEach(([text, run], i) => {
      const name = run === PERSON ? "by-person" : "by-model";
      const span = spans[i] ?? ink.appendChild(document.createElement("span"));
      if (span.className !== name) span.className = name;
      fill(span, text);
    });
    while (spans.length > wanted.length) spans[spans.length - 1].remove();
    if (unreadEnd) paintUnread();
    tokens.paint();
  }

  // In short text nodes: to paint a line, and to lay out what was added, the browser goes through all of its
  // node. They end behind a space, so that no letter is parted from what it is drawn together with.

  function fill(span, text) {
    const parts = text.match(SHORT_NODES) ?? [];
    parts.forEach((part, i) => {
      const node = span.childNodes[i] ?? span.appendChild(document.createTextNode(""));
      if (node.data === part) return;
      if (part.startsWith(node.data)) node.appendData(part.slice(node.length));
      else node.data = part;
    });
    while (span.childNodes.length > parts.length) span.lastChild.remove();
  }

  // The same replacement in the textarea, which keeps its selection.
  function replaceInArea(at, removedLength, inserted) {
    area.setRangeText(inserted, at, at + removedLength, "preserve");
  }

  function select([from, to]) {
    area.setSelectionRange(from, to);
    reveal(to);
  }

  // Scroll so that the character at `offset` can be seen.
  function reveal(offset) {
    let left = offset;
    const texts = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      if (left > node.length) {
        left -= node.length;
        continue;
      }
      const range = document.createRange();
      range.setStart(node, Math.max(0, left - 1));
      range.setEnd(node, left);
      const [place, view] = [range.getBoundingClientRect(), sheet.getBoundingClientRect()];
      if (place.bottom > view.bottom - 24) sheet.scrollTop += place.bottom - view.bottom + 64;
      else if (place.top < view.top + 24) sheet.scrollTop -= view.top - place.top + 64;
      return;
    }
  }

  const isAtEnd = () => sheet.scrollHeight - sheet.scrollTop - sheet.clientHeight < END_SLACK_PX;
  const toEnd = () => (sheet.scrollTop = sheet.scrollHeight);

  // Where the sheet gives room to what is below it, the end of the text stays in view.
  let wasAtEnd = true;
  sheet.addEventListener("scroll", () => (wasAtEnd = isAtEnd()));
  new ResizeObserver(() => wasAtEnd && toEnd()).observe(sheet);

  // ---- writing by hand

  function readArea(kind) {
    const after = area.value;
    const caret = area.selectionEnd;
    const change = difference(written.text, after, caret);
    if (!change.removed && !change.inserted) return;
    const inserted = change.inserted ? [[change.inserted, PERSON]] : [];
    const before = lastSelection ?? [change.at, change.at + change.removed.length];
    written.replace(kind, change.at, change.removed.length, inserted, before, [caret, caret]);
    changed();
  }

  let lastSelection = null;
  area.addEventListener("beforeinput", (event) => {
    if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
      event.preventDefault();
      walk(event.inputType === "historyUndo" ? "undo" : "redo");
      return;
    }
    if (!composition) lastSelection = [area.selectionStart, area.selectionEnd];
  });

  area.addEventListener("input", (event) => {
    if (composition) {
      // not a step yet: the words may still change, but they are shown
      const change = difference(composition.text, area.value, area.selectionEnd);
      const inserted = change.inserted ? [[change.inserted, PERSON]] : [];
      written.pieces = pieces.splice(composition.pieces, change.at, change.removed.length, inserted);
      render();
      return;
    }
    readArea(event.inputType === "insertText" || event.inputType?.startsWith("deleteContent") ? "type" : "edit");
  });

  area.addEventListener("compositionstart", () => {
    composition = { pieces: written.pieces, text: written.text };
  });

  area.addEventListener("compositionend", () => {
    written.pieces = composition.pieces;
    composition = null;
    readArea("edit");
    render();
  });

  // Everything that follows from a changed text.
  function changed() {
    render();
    showButtons();
    scheduleCount();
    sessions.current.tree.follow(written.text);
    sessions.scheduleSave();
    lookAgain();
    const place = latest && written.placeOf(latest.run);
    emit("written", place ? written.text.slice(place.from, place.to) : null);
  }

  function walk(direction) {
    if (running) return;
    const change = direction === "undo" ? written.undo() : written.redo();
    if (!change) return;
    replaceInArea(change.at, pieces.length(change.removed), pieces.text(change.inserted));
    changed();
    select(change.selection);
    say(direction === "undo" ? "Undone" : "Redone");
  }

  // Put a whole text in the place of the present one, as one step. Words of a model that came with it from
  // elsewhere are the latest of this text.
  function replaceText(given) {
    const { text: prompt, words } = typeof given === "string" ? { text: given, words: "" } : given;
    const text = prompt + words;
    if (running || text === written.text) return;
    const length = written.text.length;
    const selection = [area.selectionStart, area.selectionEnd];
    if (words) {
      latest = { run: (written.runs += 1), prompt };
      lastRun = null;
    }
    const inserted = [[prompt, PERSON], [words, written.runs]];
    written.replace("edit", 0, length, inserted, selection, [text.length, text.length]);
    replaceInArea(0, length, text);
    changed();
    area.focus({ preventScroll: true });
    select([text.length, text.length]);
  }

  on("text", replaceText);

  // Put a node of the tree in the place of the present text, which is a node before it goes. What both begin
  // with stays, so that the step is small.
  function openNode(id) {
    if (running) return;
    const { tree } = sessions.current;
    tree.commit(written.pieces);
    const [before, after] = [written.text, tree.textOf(id)];
    let at = 0;
    while (at < before.length && before[at] === after[at]) at += 1;
    if (before !== after) {
      const inserted = pieces.slice(tree.piecesOf(id), at, Infinity);
      const selection = [area.selectionStart, area.selectionEnd];
      written.replace("open", at, before.length - at, inserted, selection, [after.length, after.length]);
      replaceInArea(at, before.length - at, after.slice(at));
    }
    tree.current = id;
    hideNotice();
    changed();
    area.focus({ preventScroll: true });
    select([after.length, after.length]);
  }

  on("open", openNode);

  // Write anew what came after a prompt, with these controls.
  function replay({ prompt, controls }) {
    if (running) return;
    if (!written.text.startsWith(prompt)) replaceText(prompt);
    generate({ at: prompt.length, controls });
  }

  on("replay", replay);

  // Put another completion where the model's words of the latest request are, as one step.
  function take(text) {
    if (running) return;
    const end = written.text.length;
    const place = written.placeOf(latest.run) ?? (written.text === latest.prompt && { from: end, to: end });
    if (!place) {
      showNotice("The words that this completion would replace are no longer in the text. Undo brings them back.");
      return;
    }
    hideNotice();
    const { from, to } = place;
    const after = from + text.length;
    const selection = [area.selectionStart, area.selectionEnd];
    written.replace("take", from, to - from, [[text, latest.run]], selection, [after, after]);
    replaceInArea(from, to - from, text);
    changed();
    area.focus({ preventScroll: true });
    select([after, after]);
    say("The completion is in the text");
  }

  on("take", take);

  // What stands before the model's last run, and that run.
  state.lastRun = () => {
    const run = written.pieces.reduce((last, [, author]) => (author === PERSON ? last : author), null);
    const place = run === null ? null : written.placeOf(run);
    const { text } = written;
    return place
      ? { prompt: text.slice(0, place.from), continuation: text.slice(place.from, place.to) }
      : { prompt: text, continuation: "" };
  };

  // ---- keeping: assets/sessions.js

  on("session", () => {
    ({ written } = sessions.current);
    [latest, lastRun, counted] = [null, null, null];
    area.value = written.text;
    hideNotice();
    changed();
    showStatus();
  });

  on("keeping", (message) => message && showNotice(message));

  // ---- the line

  function showAside(kind, message, actions) {
    const line = $(".aside");
    line.hidden = false;
    setText(line.querySelector("p"), message);
    line.querySelector(".aside-actions").replaceChildren(
      ...actions.map(([name, act]) => {
        const button = make("button", "link", name);
        button.type = "button";
        button.addEventListener("click", act);
        return button;
      }),
    );
    if (aside?.kind !== kind) say(message);
    aside = { kind, text: kind === "cut" ? null : written.text };
  }

  function hideAside() {
    const line = $(".aside");
    if (line.contains(document.activeElement)) area.focus({ preventScroll: true });
    line.hidden = true;
    aside = null;
  }

  function dismissAside() {
    if (aside?.kind === "loop") loopsLeftAlone = written.runs;
    hideAside();
  }

  // {message, controls}: what was put into the text, and what the controls it set held before.
  on("aside", ({ message, controls }) => {
    showAside("step", message, [["Undo", () => {
      hideAside();
      if (running) return;
      useControls(controls);
      walk("undo");
      area.focus({ preventScroll: true });
    }]]);
  });

  // The text has changed, by hand or by steps.
  function lookAgain() {
    if (!aside || running) return;
    const { kind, text } = aside;
    if (kind === "loop" ? !loopAtEnd() : text !== null && text !== written.text) hideAside();
  }

  // ---- loops

  // The loop that the model's words at the end of the text run in, with places in the text; null for none.
  function loopAtEnd() {
    const { text } = written;
    let length = 0;
    for (let i = written.pieces.length - 1; i >= 0 && written.pieces[i][1] !== PERSON; i -= 1) {
      length += written.pieces[i][0].length;
      if (length >= LOOP_TAIL) break;
    }
    const from = text.length - Math.min(length, LOOP_TAIL);
    const loop = findLoop(text.slice(from));
    return loop && { ...loop, start: from + loop.start, cut: from + loop.cut };
  }

  function lookForLoop({ now = false } = {}) {
    if (loopsLeftAlone === written.runs) return;
    if (!now && performance.now() - lookedForLoop < LOOP_LOOK_MS) return;
    lookedForLoop = performance.now();
    const loop = loopAtEnd();
    if (!loop) return;
    const isNew = aside?.kind !== "loop" || aside.running !== Boolean(running);
    if (!isNew) return;
    const words = written.text.slice(loop.cut - loop.period, loop.cut).replace(/\s+/g, " ").trim();
    const quoted = words.length > QUOTE_MOST ? `${words.slice(0, QUOTE_MOST).trimEnd()}…` : words;
    const actions = [["Cut back and go on", cutBack]];
    if (running) actions.unshift(["Stop here", stop]);
    showAside("loop", `The text has begun to repeat itself: “${quoted}”`, actions);
    aside.running = Boolean(running);
  }

  // Cut behind the first of what is repeated and write on from there, with a control against repetition
  // raised. The cut and the new words are one step. A run that is under way is stopped first.
  async function cutBack() {
    if (running) {
      cutWhenStopped = true;
      stop();
      return;
    }
    const loop = loopAtEnd();
    if (!loop) return hideAside();
    const before = Number(state.controls.dry_multiplier) || 0;
    const raised = Math.min(DRY_MOST, before < DRY_USUAL ? DRY_USUAL : 2 * before);
    const { text } = written;
    await useControls({ dry_multiplier: raised });
    if (running || written.text !== text) return;
    generate({ at: loop.cut });
    const how = raised > before ? `raised from ${before || "off"} to ${raised}` : `at its most, ${raised},`;
    showAside("cut", `Cut back to where it stood first; DRY multiplier ${how} against repetition.`, []);
  }

  function looksWhenRunEnds() {
    const cut = cutWhenStopped;
    cutWhenStopped = false;
    if (aside?.kind === "cut") aside.text = written.text;
    if (cut) cutBack();
    else lookForLoop({ now: true });
  }

  // ---- what the model does not read

  // Where `truncate` lets the beginning be left out: how much of it, with the length that is asked for now.
  async function lookAtWindow(text = written.text) {
    const { truncate, max_new_tokens } = state.controls;
    const context = model?.context_length;
    const most = context && context - Math.min(Number(max_new_tokens), Math.floor(context / 2));
    const look = (windowLook += 1);
    let found = { tokens: 0, end: 0 };
    if (truncate === "left" && most && (running || counted?.tokens > most)) {
      try {
        found = await server.unread({ text, max_new_tokens: Number(max_new_tokens) });
      } catch {
        return; // the next change asks again
      }
      if (look !== windowLook || !written.text.startsWith(text)) return;
    }
    [unread, unreadEnd] = [found.tokens, found.end];
    paintUnread();
    showStatus();
  }

  // As grey letters over whatever colours the words have; called whenever the ink was made anew.
  function paintUnread() {
    if (!globalThis.Highlight) return;
    if (!unreadEnd || unreadEnd > written.text.length) {
      CSS.highlights.delete("unread");
      return;
    }
    const range = document.createRange();
    range.setStart(ink, 0);
    let left = unreadEnd;
    const texts = document.createTreeWalker(ink, NodeFilter.SHOW_TEXT);
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      range.setEnd(node, Math.min(left, node.length));
      left -= node.length;
      if (left <= 0) break;
    }
    const highlight = new Highlight(range);
    highlight.priority = 10;
    CSS.highlights.set("unread", highlight);
  }

  on("controls", () => running || lookAtWindow());

  // ---- the model's turn

  // `at` is where the text is cut, `given` a beginning of the model's words that stands already; `controls`
  // are those that this request alone has other than the panel.
  function generate({ retry = false, at = null, given = "", controls = {} } = {}) {
    if (running) return;
    const end = written.text.length;
    at ??= retry ? written.lastRunStart : end;
    if (at < 0) return;
    hideNotice();
    hideAside();
    const atEnd = isAtEnd();
    const selection = [area.selectionStart, area.selectionEnd];
    const prompt = written.text.slice(0, at) + given;
    const before = written.pieces;
    const kind = retry ? "retry" : given ? "alternative" : "generate";
    const step = written.beginRun(at, end - at, selection, given);
    replaceInArea(at, end - at, given);
    running = new Run({
      records: readRecords,
      stop: (id) => server.stop(id),
      silent: noticeSilence,
      tick: showStatus,
    });
    Object.assign(running, { step, phase: "sending", tokens: 0, total: 0 });
    latest = { run: written.runs, prompt };
    if (tokens.isOn) controls = { logprobs: tokens.wantedLogprobs, ...controls };
    tokens.begin(prompt, Number(controls.max_new_tokens ?? state.controls.max_new_tokens) || null);
    emit("record", { event: "begin", sent: prompt, controls, kind, run: latest.run, before, prompt: written.pieces, at });
    area.readOnly = true;
    swapButtons("generate", "stop");
    changed();
    if (atEnd || at < end) toEnd();
    say(retry ? "Retrying" : "Generating");
    showStatus();
    trigger("generate", { prompt, retry, id: running.id, controls });
  }

  // Take another road: the text is cut at `at`, `given` is put there as the model's, and the model goes on
  // from it, for `length` tokens where that is told. One step, which undoing takes back. `token` is what is
  // known of `given`, where it is a token. A run that is under way is stopped first.
  function generateFrom(at, given, length = null, token = null) {
    if (running) {
      running.then = () => generateFrom(at, given, length, token);
      stop();
      return;
    }
    given = given.replace(/\r\n?/g, "\n");
    if (token) tokens.know(written.text.slice(0, at), given, token);
    generate({ at, given, controls: length === null ? {} : { max_new_tokens: length } });
  }

  watch("value", () => running?.receive(props.value));

  function readRecords(records) {
    const follow = isAtEnd();
    let text = "";
    for (const record of records) {
      if (!running) break;
      if (Array.isArray(record.tokens)) record.tokens = readTokens(record.tokens);
      if (record.event === "text") {
        record.text = lineEnds(record);
        if (record.index === 0) text += record.text;
      }
      if (record.last || record.event === "refused") {
        write(text);
        text = "";
      }
      hear(record);
    }
    write(text);
    if (follow) toEnd();
    showStatus();
  }

  // The record's text with the line ends of the textarea, also where one is cut by the end of a record.
  function lineEnds({ index, text }) {
    if (!text) return text;
    const halves = (running.halves ??= new Set()); // completions whose text so far ends in a \r
    const rest = halves.has(index) && text[0] === "\n" ? text.slice(1) : text;
    if (text.endsWith("\r")) halves.add(index);
    else halves.delete(index);
    return rest.replace(/\r\n?/g, "\n");
  }

  function write(text) {
    if (!text || !running) return;
    const end = written.text.length;
    written.extendRun(running.step, text);
    replaceInArea(end, 0, text);
    render();
    lookForLoop();
  }

  function hear(record) {
    tokens.hear(record);
    if (record.event !== "begin") emit("record", record);
    switch (record.event) {
      case "waiting":
        running.phase = "waiting";
        running.ahead = record.ahead;
        if (record.ahead > 0) say(`In line: ${record.ahead} ahead of you`);
        break;
      case "started":
        running.phase = "reading";
        running.promptTokens = record.prompt_tokens;
        running.completions = record.n;
        running.candidates = record.candidates;
        if (record.dropped_tokens) lookAtWindow(latest.prompt);
        break;
      case "drafting":
        if (running.phase !== "stopping") running.phase = "drafting";
        running.total = record.tokens;
        running.rate = record.rate;
        break;
      case "text":
        if (running.phase !== "stopping") running.phase = "writing";
        if (record.index === 0) running.tokens = record.tokens;
        running.total = record.total;
        running.rate = record.rate;
        break;
      case "finished":
        if (record.index === 0) running.first = record;
        if (record.last) end({ ...(running.first ?? record), total: record.total, rate: record.rate });
        break;
      case "refused":
        end({ reason: "error", ...record });
        break;
    }
  }

  function end(how) {
    running.end();
    const { step, completions, then } = running;
    const failed = how.reason === "error";
    running = null;
    area.readOnly = false;
    swapButtons("stop", "generate");
    if (written.endRun(step, failed)) {
      const { text } = written;
      if (area.value !== text) replaceInArea(step.at, area.value.length - step.at, text.slice(step.at));
    }
    tokens.end();
    if (failed) {
      lastRun = null;
      showNotice(how.message, how.control);
      emit("refresh-status");
    } else {
      lastRun = { ...how, completions };
      counted = { tokens: how.prompt_tokens + how.completion_tokens }; // until it is counted anew
      say(`${how.message} ${plural(how.total, "token")} written.`);
    }
    emit("record", { event: "end", message: how.message });
    changed();
    showStatus();
    sessions.save();
    looksWhenRunEnds();
    if (!failed) then?.();
  }

  function noticeSilence() {
    end({ reason: "error", message: SILENT });
  }

  function stop() {
    if (!running || running.phase === "stopping") return;
    running.phase = "stopping";
    running.stop();
    showStatus();
  }

  // ---- buttons, status, messages

  function showButtons() {
    button("undo").disabled = Boolean(running) || !written.canUndo;
    button("redo").disabled = Boolean(running) || !written.canRedo;
    button("retry").disabled = Boolean(running) || written.lastRunStart < 0;
    const name = button("generate").querySelector(".name");
    const wanted = written.lastRunStart < 0 ? "Generate" : "Continue";
    if (name.textContent !== wanted) name.textContent = wanted;
  }

  // Stop stands where Generate was; the focus goes with it.
  function swapButtons(from, to) {
    const focused = document.activeElement === button(from);
    button(to).hidden = false;
    if (focused) button(to).focus();
    button(from).hidden = true;
    element.querySelector(".editor").classList.toggle("is-running", to === "stop");
  }

  function showStatus() {
    const context = model?.context_length;
    let count = "";
    if (running?.promptTokens !== undefined || (counted && counted.tokens !== null)) {
      const tokens = running?.promptTokens !== undefined ? running.promptTokens + running.tokens : counted.tokens;
      if (unread && !running) count = `${plural(tokens, "token")}: the first ${number(unread)}, in grey, will not be read`;
      else count = context ? `${number(tokens)} of ${number(context)} tokens` : plural(tokens, "token");
      if (context && !running && !unread) {
        const room = context - tokens;
        count += room > 0 ? `, room for ${number(room)}` : ": no room left to write";
      }
      $(".count").classList.toggle("is-full", Boolean(context) && tokens >= context && !unread);
    } else if (counted?.message) {
      count = counted.message;
    } else if (!counted && !model?.context_length) {
      count = "";
    }
    setText($(".count"), count);
    setText($(".run"), running ? describeRunning() : lastRun ? describeEnd(lastRun) : "");
    const seed = button("keep-seed");
    seed.hidden = Boolean(running) || !lastRun;
    if (lastRun) setText(seed, `seed ${lastRun.seed}`);
    const hint = !running && !isHealing && counted?.hint;
    setText($(".hint"), hint || "");
    button("heal").hidden = !hint;
  }

  function describeRunning() {
    const loading = model && model.state !== "ready";
    switch (running.phase) {
      case "stopping":
        return "Stopping…";
      case "writing": {
        const rate = running.rate ? `, ${running.rate.toFixed(running.rate < 10 ? 1 : 0)} a second` : "";
        const several = running.completions > 1 ? ` of ${running.completions} completions` : "";
        return `Writing: ${plural(running.total, "token")}${several}${rate}`;
      }
      case "drafting":
        return `Drafting ${running.candidates} completions: ${plural(running.total, "token")}`;
      case "reading":
        return "Reading the text…";
      default:
        if (loading) return `Waiting for the model. ${model.detail}`;
        if (running.ahead > 0) return `In line, ${running.ahead} ahead of you`;
        return "Starting…";
    }
  }

  function describeEnd(run) {
    const rate = run.rate ? `, ${run.rate.toFixed(run.rate < 10 ? 1 : 0)} a second` : "";
    const several = run.completions > 1 ? ` in ${run.completions} completions` : "";
    const isTold = !several && run.message.includes(number(run.total));
    const tokens = isTold ? "" : ` ${plural(run.total, "token")}${several}`;
    return run.message.replace(tokens ? /$/ : /\.$/, "") + tokens + rate;
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  function say(text) {
    announcer.textContent = text;
  }

  function showNotice(message, control) {
    notice.hidden = false;
    notice.querySelector("p").textContent = message;
    document.querySelectorAll(".control[data-wrong]").forEach((node) => node.removeAttribute("data-wrong"));
    if (control) markWrong(control);
  }

  // A control in a closed group is on the page only when that is open.
  function markWrong(control) {
    document.querySelector(`.holds-${control} > button:not(.open)`)?.click();
    requestAnimationFrame(() => document.getElementById(`control-${control}`)?.setAttribute("data-wrong", ""));
  }

  function hideNotice() {
    notice.hidden = true;
    document.querySelectorAll(".control[data-wrong]").forEach((node) => node.removeAttribute("data-wrong"));
  }

  on("notice", (message) => showNotice(message));

  let countTimer = null;
  function scheduleCount() {
    clearTimeout(countTimer);
    if (running) return;
    showStatus();
    countTimer = setTimeout(count, COUNT_PAUSE_MS);
  }

  async function count() {
    const text = written.text;
    try {
      const answer = await server.count_tokens(text);
      if (running || text !== written.text) return;
      counted = answer;
      showStatus();
      lookAtWindow();
    } catch {
      // the next change or the next status asks again
    }
  }

  on("status", (status) => {
    const before = model;
    model = status;
    if (before?.context_length !== model.context_length) scheduleCount();
    showStatus();
  });

  // How many continuations at once: the control `n`, one step away.
  const several = $('[data-control="n"]');
  several.addEventListener("change", () => useControls({ n: Number(several.value) }));

  on("controls", (values) => {
    several.hidden = values.n === undefined;
    if (!Array.from(several.options).some(({ value }) => value === String(values.n))) {
      several.add(new Option(`× ${values.n}`, values.n));
    }
    several.value = values.n;
    isHealing = values.token_healing === true;
    showStatus();
  });

  on("use-controls", () => trigger("use_controls"));

  // ---- hands

  const actions = {
    generate,
    stop,
    retry: () => generate({ retry: true }),
    undo: () => walk("undo"),
    redo: () => walk("redo"),
    dismiss: hideNotice,
    "dismiss-aside": dismissAside,
    tokens: () => {
      tokens.toggle();
      button("tokens").setAttribute("aria-pressed", String(tokens.isOn));
    },
    heal: () => trigger("heal"),
    "keep-seed": () => trigger("keep_seed", { seed: lastRun.seed }),
    controls: () => showControls(!document.body.classList.contains("controls-open")),
  };

  element.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed && !pressed.disabled) actions[pressed.dataset.action]();
  });

  // On a narrow screen the controls are a drawer, which a touch beside it closes.
  function showControls(open) {
    document.body.classList.toggle("controls-open", open);
    button("controls").setAttribute("aria-expanded", String(open));
    if (open) document.getElementById("close-controls").focus();
  }

  document.addEventListener("click", (event) => {
    const inside = event.target.closest("#controls") && !event.target.closest("#close-controls");
    if (inside || event.target.closest('[data-action="controls"]')) return;
    if (document.body.classList.contains("controls-open")) showControls(false);
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "write") return;
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      generate();
    } else if (event.key === "Escape" && running) {
      event.preventDefault();
      stop();
    } else if (event.key === "Escape" && document.body.classList.contains("controls-open")) {
      showControls(false);
      button("controls").focus();
    } else if (command && !event.altKey && event.target === area) {
      const key = event.key.toLowerCase();
      if (key === "z" || key === "y") {
        event.preventDefault();
        walk(key === "y" || event.shiftKey ? "redo" : "undo");
      }
    }
  });

  if (/Mac|iPhone|iPad/.test(navigator.platform)) {
    button("generate").querySelector("kbd").textContent = "⌘⏎";
  }
  area.value = written.text;
  element.querySelector(".editor").dataset.ready = "";
  changed();
  showStatus();
  if (matchMedia("(pointer: fine)").matches && document.activeElement === document.body) {
    area.focus({ preventScroll: true });
    select([area.value.length, area.value.length]);
  }
}
