// The editor on the page. A real textarea holds the text and the caret; its letters are transparent, and
// a backdrop with the same metrics shows them in the colours of who wrote them. Text of any origin gets
// there through text nodes only.

const LIFE_SIGN_MS = 15000; // the server says something every half second
const COUNT_PAUSE_MS = 250;
const END_SLACK_PX = 48;
const NODE_CHARACTERS = 500; // of a text node of the ink, before it ends with a word

const $ = (selector) => element.querySelector(selector);
const sheet = $(".sheet");
const ink = $(".ink");
const area = $("textarea");
const notice = $(".notice");
const announcer = $('[role="status"]');
const button = (action) => $(`[data-action="${action}"]`);
const { number, plural, tell, listen, PERSON, pieces, difference, newId } = gptj;

let { written } = gptj.session;
let running = null; // the request under way
let latest = null; // the latest request that was sent: {run, prompt}
let lastRun = null; // how the last one ended
let model = null; // the last status heard
let counted = null; // {tokens, message} of the text as last counted
let composition = null; // the text before an input method began to compose
let isHealing = false; // whether the controls turn token healing on

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
const SHORT_NODES = new RegExp(`[^]{1,${NODE_CHARACTERS}}\\S*\\s*`, "g");

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
  gptj.session.tree.follow(written.text);
  gptj.sessions.scheduleSave();
  lookAgain();
  const place = latest && written.placeOf(latest.run);
  tell("written", place ? written.text.slice(place.from, place.to) : null);
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

listen("text", replaceText);

// Put a node of the tree in the place of the present text, which is a node before it goes. What both begin
// with stays, so that the step is small.
function openNode(id) {
  if (running) return;
  const { tree } = gptj.session;
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

listen("open", openNode);

// Write anew what came after a prompt, with these controls.
function replay({ prompt, controls }) {
  if (running) return;
  if (!written.text.startsWith(prompt)) replaceText(prompt);
  generate({ at: prompt.length, controls });
}

listen("replay", replay);

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

listen("take", take);

// What stands before the model's last run, and that run.
gptj.lastRun = () => {
  const run = written.pieces.reduce((last, [, author]) => (author === PERSON ? last : author), null);
  const place = run === null ? null : written.placeOf(run);
  const { text } = written;
  return place
    ? { prompt: text.slice(0, place.from), continuation: text.slice(place.from, place.to) }
    : { prompt: text, continuation: "" };
};

// ---- keeping: assets/sessions.js

listen("session", () => {
  ({ written } = gptj.session);
  [latest, lastRun, counted] = [null, null, null];
  area.value = written.text;
  hideNotice();
  changed();
  showStatus();
});

listen("keeping", (message) => message && showNotice(message));

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
  running = { id: newId(), step, read: 0, phase: "sending", tokens: 0, total: 0, heard: Date.now() };
  latest = { run: written.runs, prompt };
  if (tokens.isOn) controls = { logprobs: tokens.wantedLogprobs, ...controls };
  tokens.begin(prompt, Number(controls.max_new_tokens ?? gptj.controls.max_new_tokens) || null);
  tell("record", { event: "begin", sent: prompt, controls, kind, run: latest.run, before, prompt: written.pieces, at });
  area.readOnly = true;
  swapButtons("generate", "stop");
  changed();
  if (atEnd || at < end) toEnd();
  say(retry ? "Retrying" : "Generating");
  showStatus();
  running.watch = setInterval(watchOver, 1000);
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

// The server's log of this request: one JSON record a line.
watch("value", () => {
  if (!running) return;
  const log = typeof props.value === "string" ? props.value : "";
  if (log.length < running.read) running.read = 0; // a new log
  running.heard = Date.now();
  const end = log.lastIndexOf("\n") + 1;
  let lines = log.slice(running.read, end);
  running.read = end;
  if (!running.begun) {
    const begin = log.slice(0, log.indexOf("\n"));
    if (!begin || JSON.parse(begin).id !== running.id) {
      running.read = 0; // what is left of an earlier request
      return;
    }
    running.begun = true;
    lines = log.slice(0, end);
  }
  const follow = isAtEnd();
  let text = "";
  for (const line of lines.split("\n")) {
    if (!line || !running) continue;
    const record = JSON.parse(line);
    if (Array.isArray(record.tokens)) record.tokens = gptj.readTokens(record.tokens);
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
});

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
  if (record.event !== "begin") tell("record", record);
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
  clearInterval(running.watch);
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
    tell("refresh-status");
  } else {
    lastRun = { ...how, completions };
    counted = { tokens: how.prompt_tokens + how.completion_tokens }; // until it is counted anew
    say(`${how.message} ${plural(how.total, "token")} written.`);
  }
  tell("record", { event: "end", message: how.message });
  changed();
  showStatus();
  gptj.sessions.save();
  looksWhenRunEnds();
  if (!failed) then?.();
}

function stop() {
  if (!running || running.phase === "stopping") return;
  running.phase = "stopping";
  running.stopAsked = Date.now();
  askToStop();
  showStatus();
}

function askToStop() {
  server.stop(running.id).catch(() => {});
}

// Once a second: a stop that came before the request is asked again; a server gone silent is noticed.
function watchOver() {
  if (running.phase === "stopping") askToStop();
  if (Date.now() - running.heard > LIFE_SIGN_MS) {
    end({ reason: "error", message: "The playground no longer answers. Your text is kept; try again when the connection is back." });
  } else {
    showStatus();
  }
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

listen("notice", (message) => showNotice(message));

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

listen("status", (status) => {
  const before = model;
  model = status;
  if (before?.context_length !== model.context_length) scheduleCount();
  showStatus();
});

// How many continuations at once: the control `n`, one step away.
const several = $('[data-control="n"]');
several.addEventListener("change", () => gptj.useControls({ n: Number(several.value) }));

listen("controls", (values) => {
  several.hidden = values.n === undefined;
  if (!Array.from(several.options).some(({ value }) => value === String(values.n))) {
    several.add(new Option(`× ${values.n}`, values.n));
  }
  several.value = values.n;
  isHealing = values.token_healing === true;
  showStatus();
});

listen("use-controls", () => trigger("use_controls"));

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
  if (document.documentElement.dataset.view !== "write") return;
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
