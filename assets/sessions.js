// The visitor's sessions, in the visitor's browser and nowhere else. A session is a text, its steps, and
// the tree of all that was written in it; each stands under one key. Every tab has one open, as
// gptj.session = {id, name, time, written, tree}, and finds it again after a reload; another one is opened
// with the news "session". What the browser has no room for is kept in the tab, and that is said
// ("keeping").

const { pieces, WrittenText, BranchTree, newId, readPieces, isObject, tell, listen, number } = gptj;

const PREFIX = "gptj-playground/text/";
const TAB = "gptj-playground/tab"; // in the tab's own storage: the id of its session
const FORMAT = "gptj-playground/session";
const VERSION = 2; // 1 had no tree, and was not exported
const LARGEST_FILE = 5 * 2 ** 20;
const SAVE_PAUSE_MS = 400;
const FIRST_WORDS = 60;

const ABSENT =
  "This browser keeps nothing for this page, so this session lasts until the tab is closed. Export it under Branches to keep it.";
const FULL =
  "The browser's room for this page is spent: this session lasts until the tab is closed. Export it under Branches, or delete sessions that you no longer need.";
const SHORTENED =
  "The browser's room for this page is nearly spent: the text and all branches are kept, the single steps to undo are not. Export or delete sessions under Branches.";

// ---- the browser's storage, and what stands in for it

const inTab = new Map(); // key: what had no room in the browser

const storage = {
  get(id) {
    if (inTab.has(id)) return inTab.get(id);
    try {
      return localStorage.getItem(PREFIX + id);
    } catch {
      return null;
    }
  },

  // Returns whether the browser keeps it.
  put(id, raw) {
    try {
      localStorage.setItem(PREFIX + id, raw);
      inTab.delete(id);
      return true;
    } catch {
      return false;
    }
  },

  remove(id) {
    inTab.delete(id);
    try {
      localStorage.removeItem(PREFIX + id);
    } catch {
      // then it is not there
    }
  },

  ids() {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
      return [...new Set([...keys.map((key) => key.slice(PREFIX.length)), ...inTab.keys()])];
    } catch {
      return [...inTab.keys()];
    }
  },

  isThere() {
    try {
      return Boolean(localStorage);
    } catch {
      return false;
    }
  },
};

const tab = {
  get() {
    try {
      return sessionStorage.getItem(TAB);
    } catch {
      return null;
    }
  },
  set(id) {
    try {
      sessionStorage.setItem(TAB, id);
    } catch {
      // a reload begins anew
    }
  },
};

// ---- reading and writing a session

function newSession() {
  return { id: newId(), name: "", time: Date.now(), stamp: null, written: new WrittenText(), tree: new BranchTree() };
}

// What is saved; `time` and `stamp` come first, where they are found without reading the whole.
function toSaved({ name, time, stamp, written, tree }, { withSteps }) {
  const { runs, position, steps } = written;
  return JSON.stringify({
    version: VERSION,
    time,
    stamp,
    name,
    runs,
    pieces: written.pieces,
    position: withSteps ? position : 0,
    steps: withSteps ? steps : [],
    current: tree.current,
    nodes: tree.toList(),
  });
}

const stampOf = (raw) => (raw === null ? null : (/"stamp":"([^"]*)"/.exec(raw.slice(0, 120))?.[1] ?? ""));

// Raises an error that says what is wrong.
function readSession(given, id) {
  if (!isObject(given)) throw new Error("it is not an object");
  const session = { ...newSession(), id };
  if (given.version === 1) {
    session.written = new WrittenText(readWritten(given));
    session.tree.commit(session.written.pieces);
  } else if (given.version === VERSION) {
    session.tree = BranchTree.fromList(given.nodes, given.current);
    const withText = given.pieces === undefined ? { ...given, pieces: session.tree.piecesOf(session.tree.current) } : given;
    session.written = new WrittenText(readWritten(withText));
    session.tree.follow(session.written.text);
  } else {
    throw new Error(`its version is ${JSON.stringify(given.version)?.slice(0, 20)}, and this page reads ${VERSION}`);
  }
  for (const { pieces: own } of session.tree.nodes.values()) {
    for (const [, run] of own) session.written.runs = Math.max(session.written.runs, run);
  }
  session.name = typeof given.name === "string" ? given.name.slice(0, 200) : "";
  session.time = Number.isFinite(given.time) ? given.time : Date.now();
  return session;
}

function readWritten(given) {
  const { steps = [], position = 0, runs = 0 } = given;
  const isStep = (step) => isObject(step) && Number.isInteger(step.at);
  if (!Array.isArray(steps) || !steps.every(isStep)) throw new Error("its steps are no steps");
  if (!Number.isInteger(position) || position < 0 || position > steps.length) {
    throw new Error("its place among the steps is none");
  }
  if (!Number.isSafeInteger(runs) || runs < 0) throw new Error("its count of runs is none");
  const read = steps.map((step, i) => ({
    ...step,
    removed: readPieces(step.removed, `step ${i + 1}`),
    inserted: readPieces(step.inserted, `step ${i + 1}`),
  }));
  const text = readPieces(given.pieces, "the session");
  const highest = text.reduce((most, [, run]) => Math.max(most, run), runs);
  return { pieces: text, steps: read, position, runs: highest };
}

const load = (id, raw) => ({ ...readSession(JSON.parse(raw), id), stamp: stampOf(raw) });

// What is not ours or is broken is left where it lies and not shown.
function tryLoad(id) {
  try {
    return load(id, storage.get(id));
  } catch {
    return null;
  }
}

const firstWords = (text) => text.slice(0, 4 * FIRST_WORDS).replace(/\s+/g, " ").trim().slice(0, FIRST_WORDS);

// ---- the open session

function isBlank({ name, written, tree }) {
  return !name && !written.pieces.length && !written.steps.length && !tree.size;
}

let hasChanged = false; // since it was saved
let isTouched = false; // since it was opened
let timer = null;
let pause = SAVE_PAUSE_MS;

function change() {
  hasChanged = true;
  isTouched = true;
}

function scheduleSave() {
  change();
  timer ??= setTimeout(save, pause);
}

function save() {
  clearTimeout(timer);
  timer = null;
  const session = gptj.session;
  const stored = storage.get(session.id);
  const isShared = stampOf(stored) !== session.stamp;
  if (stored === null ? isBlank(session) || !hasChanged : !hasChanged && !(isShared && isTouched)) return;
  if (isShared) {
    // another tab has written here, or deleted it: what stands in this one goes on as a session of its own
    if (stored !== null && session.name) session.name = nameOfCopy(session.name);
    session.id = newId();
    tab.set(session.id);
  }
  const began = performance.now();
  session.stamp = newId();
  session.time = Date.now();
  hasChanged = false;
  const whole = toSaved(session, { withSteps: true });
  let message = "";
  if (!storage.put(session.id, whole)) {
    message = storage.isThere() ? SHORTENED : ABSENT;
    if (!storage.isThere() || !storage.put(session.id, toSaved(session, { withSteps: false }))) {
      inTab.set(session.id, whole);
      if (storage.isThere()) message = FULL;
    }
  }
  pause = Math.max(SAVE_PAUSE_MS, 20 * (performance.now() - began));
  if (message !== sessions.message) {
    sessions.message = message;
    tell("keeping", message);
  }
}

function nameOfCopy(name) {
  return `${name.replace(/ \(copy\)$/, "")} (copy)`.slice(0, 200);
}

function putIn(session) {
  gptj.session = session;
  hasChanged = false;
  isTouched = false;
  tab.set(session.id);
  tell("session");
}

// What stands in the editor is a node before another text takes its place.
function leave() {
  const { tree, written } = gptj.session;
  const before = tree.size;
  tree.commit(written.pieces);
  if (tree.size !== before) change();
  save();
}

const sessions = {
  message: "", // why the open session is not kept as it should be
  scheduleSave,
  save,

  // All sessions, the one written last first: {id, name, words, time, nodes, bytes, isOpen}.
  list() {
    save();
    const found = storage.ids().flatMap((id) => {
      const session = tryLoad(id);
      if (!session) return [];
      const { name, time, tree, written } = session;
      const bytes = 2 * storage.get(id).length;
      return [{ id, name, words: firstWords(written.text), time, nodes: tree.size, bytes, isOpen: id === gptj.session.id }];
    });
    if (!found.some(({ isOpen }) => isOpen)) {
      const { id, name, time } = gptj.session;
      found.push({ id, name, words: "", time, nodes: 0, bytes: 0, isOpen: true });
    }
    return found.sort((a, b) => b.isOpen - a.isOpen || b.time - a.time);
  },

  // Returns whether it could be opened.
  open(id) {
    leave();
    const session = id === gptj.session.id ? null : tryLoad(id);
    if (session) putIn(session);
    return Boolean(session);
  },

  begin() {
    leave();
    putIn(newSession());
  },

  duplicate(id) {
    leave();
    const session = tryLoad(id);
    if (!session) return;
    const name = nameOfCopy(session.name || firstWords(session.written.text) || "Session");
    putIn({ ...session, id: newId(), stamp: null, name });
    change();
    save();
  },

  rename(id, name) {
    if (id === gptj.session.id) {
      gptj.session.name = name;
      change();
      save();
      return;
    }
    const session = tryLoad(id);
    if (!session) return;
    const raw = toSaved({ ...session, name, stamp: newId() }, { withSteps: true });
    if (!storage.put(id, raw)) inTab.set(id, raw);
  },

  // Returns a function that brings it back.
  remove(id) {
    save();
    const raw = storage.get(id);
    const wasOpen = id === gptj.session.id;
    if (wasOpen) putIn(newSession());
    storage.remove(id);
    return () => {
      if (raw === null) return;
      if (!storage.put(id, raw)) inTab.set(id, raw);
      if (wasOpen) sessions.open(id);
    };
  },

  // ---- taking along

  // A file's text and name in one of three forms.
  export(form) {
    leave();
    const { session } = gptj;
    const name = session.name || firstWords(session.written.text) || "Session";
    const file = name.replace(/[^\p{L}\p{N} -]/gu, "").trim().slice(0, 40).trim().replace(/ /g, "-") || "session";
    if (form === "text") return { file: `${file}.txt`, type: "text/plain", content: session.written.text };
    if (form === "markdown") return { file: `${file}.md`, type: "text/markdown", content: toMarkdown(session, name) };
    const { time, tree, written } = session;
    const whole = { format: FORMAT, version: VERSION, name: session.name, time, current: tree.current, nodes: tree.toList() };
    if (tree.find(written.text) === null) whole.pieces = written.pieces;
    return { file: `${file}.json`, type: "application/json", content: JSON.stringify(whole, null, 1) };
  },

  // Opens the session that a file holds. Raises an error whose message is for people.
  async import(file) {
    if (file.size > LARGEST_FILE) {
      const size = number(Math.ceil(file.size / 2 ** 20));
      throw new Error(`The file has ${size} MB; at most ${LARGEST_FILE / 2 ** 20} MB are read.`);
    }
    let given;
    try {
      given = JSON.parse(await file.text());
    } catch {
      throw new Error("The file is not JSON. Choose a file that was exported here as JSON.");
    }
    if (given?.format !== FORMAT) {
      throw new Error("The file is JSON, but not a session of this playground. Choose one that was exported here as JSON.");
    }
    let session;
    try {
      session = readSession(given, newId());
    } catch (error) {
      throw new Error(`The session cannot be read: ${error.message}.`);
    }
    leave();
    putIn(session);
    change();
    save();
  },
};

// The text that is open, then all branches as a list, each with its words in a fence that they cannot close.
function toMarkdown({ tree, written }, name) {
  const plain = (text) => text.replace(/\s+/g, " ").replace(/[\\`*_{}[\]<>()#+!|~&-]/g, "\\$&");
  const lines = [`# ${plain(name)}`, "", fenced(written.text, ""), ""];
  if (tree.size) lines.push("## Branches", "");
  const depths = new Map();
  for (const node of tree.toList()) {
    const depth = (depths.get(node.parent) ?? -1) + 1;
    depths.set(node.id, depth);
    const indent = "  ".repeat(depth);
    const facts = [node.kind];
    if (node.starred) facts.push("starred");
    if (node.name) facts.push(`“${plain(node.name)}”`);
    const { run } = node;
    if (run?.model) facts.push(plain([run.model, run.revision, run.precision].filter(Boolean).join(" · ")));
    if (run?.seed !== undefined) facts.push(`seed ${run.seed}`);
    for (const [control, value] of Object.entries(run?.controls ?? {})) facts.push(plain(`${control} ${JSON.stringify(value)}`));
    if (run?.message) facts.push(plain(run.message));
    lines.push(`${indent}- ${facts.join(", ")}`, "", fenced(pieces.text(node.pieces), `${indent}  `), "");
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

function fenced(text, indent) {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return [`${fence}text`, ...text.split("\n"), fence].map((line) => indent + line).join("\n");
}

// ---- the request's records, as nodes

// `others` are controls that this request has other than the panel.
function factsOfRequest(others) {
  const model = gptj.status?.model;
  const controls = {};
  for (const [name, value] of Object.entries({ ...gptj.controls, ...others })) {
    const initial = gptj.defaults[name];
    const given = typeof initial === "number" ? Number(value) : (value ?? "");
    if (given !== initial) controls[name] = given;
  }
  return { controls, model: model?.name, revision: model?.revision ?? undefined, precision: model?.precision };
}

let refusal = null;
const heard = {
  begin({ prompt, at, kind, run, before, controls = {} }) {
    const { tree } = gptj.session;
    refusal = null;
    tree.commit(before);
    const { logprobs, ...others } = controls; // those are looked at while it runs, and change no word
    const facts = factsOfRequest(others);
    if (kind === "retry") delete facts.controls.seed;
    tree.begin({ prompt, at, kind, run, facts });
  },
  started: ({ n }) => gptj.session.tree.expect(n),
  text: ({ index, text }) => gptj.session.tree.grow(index, text),
  finished({ index, seed, reason, message, completion_tokens, mean_logprob }) {
    gptj.session.tree.finish(index, { seed, reason, message, tokens: completion_tokens, mean_logprob: mean_logprob ?? undefined });
  },
  refused({ message }) {
    refusal = { reason: "error", message };
  },
  end({ message }) {
    gptj.session.tree.end(refusal ?? { reason: "error", message: message ?? "It was cut off." });
    gptj.session.tree.follow(gptj.session.written.text);
  },
};

listen("record", (record) => {
  if (!Object.hasOwn(heard, record.event)) return;
  heard[record.event](record);
  scheduleSave();
  tell("tree");
});

// ---- the session that this tab had, else the one written last, else a new one

function openFirst() {
  const own = tab.get();
  if (own) return tryLoad(own) ?? newSession();
  const found = storage.ids().flatMap((id) => tryLoad(id) ?? []);
  return found.sort((a, b) => b.time - a.time)[0] ?? newSession();
}

gptj.session = openFirst();
tab.set(gptj.session.id);
gptj.sessions = sessions;

window.addEventListener("pagehide", save);
document.addEventListener("visibilitychange", () => document.hidden && save());
window.addEventListener("storage", ({ key }) => (key === null || key.startsWith(PREFIX)) && tell("stored"));
