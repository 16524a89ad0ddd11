// The visitor's sessions, stored in the visitor's browser only. A session is a text, its steps, the tree of all
// versions, and the settings; each has one storage key. Every tab has one open, `sessions.current`, and restores it
// after a reload; the event "session" announces another one. If the browser's storage is full, a session is stored in
// the tab's own storage, and if that is full too, in memory; the event "keeping" says so.

import { head } from "./characters.js";
import { emit } from "./events.js";
import { t } from "./i18n.js";
import { newId } from "./id.js";
import * as pending from "./pending.js";
import { defaultControls } from "./presets.js";
import { firstWords, fromFile, fromSaved, newSession, stampOf, toFile, toSaved } from "./session_file.js";
import * as storage from "./storage.js";
import { checkSize } from "./text_file.js";

const PREFIX = "gptj-playground/text/";
const TAB = "gptj-playground/tab"; // in the tab's own storage: the id of its session
const SAVE_PAUSE_MS = 400;

const ABSENT = t("keep.absent");
const FULL = t("keep.full");
const SHORTENED = t("keep.shortened");
const NOWHERE = t("keep.nowhere");
const COPY = ` ${t("branches.copy")}`;

// ---- saved sessions, and those that did not fit into storage

const inMemory = /** @type {Map<string, string>} */ (new Map()); // a reload would lose these

/** @param {string} id */
const getRaw = (id) => inMemory.get(id) ?? storage.read(PREFIX + id, "sessionStorage") ?? storage.read(PREFIX + id);

/** Returns whether the browser keeps it. @param {string} id @param {string} raw */
function putRaw(id, raw) {
  const isKept = storage.write(PREFIX + id, raw);
  if (isKept) removeFromTab(id);
  return isKept;
}

/** Returns whether it outlasts a reload. @param {string} id @param {string} raw */
function putInTab(id, raw) {
  removeFromTab(id);
  const isKept = storage.write(PREFIX + id, raw, "sessionStorage");
  if (!isKept) inMemory.set(id, raw);
  return isKept;
}

/** @param {string} id */
function removeFromTab(id) {
  inMemory.delete(id);
  storage.remove(PREFIX + id, "sessionStorage");
}

/** @param {string} id @param {string} raw */
const putSomewhere = (id, raw) => putRaw(id, raw) || putInTab(id, raw);

function savedIds() {
  const stored = [...storage.keys(PREFIX), ...storage.keys(PREFIX, "sessionStorage")];
  return [...new Set([...stored.map((key) => key.slice(PREFIX.length)), ...inMemory.keys()])];
}

/** The saved session; null if its data is invalid. Invalid data is kept and not shown. @param {string} id */
function tryLoad(id) {
  try {
    return fromSaved(id, getRaw(id) ?? "");
  } catch {
    return null;
  }
}

// ---- the open session

/** @param {Session} session */
function isBlank({ name, written, tree, controls, memory }) {
  return !name && !memory && !Object.keys(controls ?? {}).length && !written.pieces.length && !written.steps.length && !tree.size;
}

/** @param {string} name */
const nameOfCopy = (name) => (name.endsWith(COPY) ? name : head(name, 200 - COPY.length) + COPY);

/** @param {string} id */
const rememberInTab = (id) => storage.write(TAB, id, "sessionStorage");

let hasChanged = false; // since it was saved
let isTouched = false; // since it was opened
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let pause = SAVE_PAUSE_MS;

function change() {
  hasChanged = true;
  isTouched = true;
}

/** This tab's session, else the one saved last, else a new one. */
function openFirst() {
  const own = storage.read(TAB, "sessionStorage");
  if (own) return tryLoad(own) ?? newSession();
  const found = savedIds().flatMap((id) => tryLoad(id) ?? []);
  return found.sort((a, b) => b.time - a.time)[0] ?? newSession();
}

/** @param {Session} session */
function putIn(session) {
  sessions.current = session;
  hasChanged = false;
  isTouched = false;
  rememberInTab(session.id);
  emit("session");
}

// Make a node of the editor's text before it is replaced.
function leave() {
  const { tree, written } = sessions.current;
  const before = tree.size;
  if (!tree.growing.length) tree.commit(written.pieces); // unfinished words of the model get a node only at their end
  if (tree.size !== before) change();
  sessions.save();
}

export const sessions = {
  current: openFirst(),
  message: "", // why the open session cannot be saved

  scheduleSave() {
    change();
    timer ??= setTimeout(() => sessions.save(), pause);
  },

  save() {
    clearTimeout(timer);
    timer = undefined;
    const session = sessions.current;
    const stored = getRaw(session.id);
    const isShared = stampOf(stored) !== session.stamp;
    if (stored === null ? isBlank(session) || !hasChanged : !hasChanged && !(isShared && isTouched)) return;
    if (isShared) {
      // another tab has saved or deleted this session: continue in a new one
      if (stored !== null && session.name) session.name = nameOfCopy(session.name);
      const before = session.id;
      session.id = newId();
      rememberInTab(session.id);
      pending.move(before, session.id);
    }
    const began = performance.now();
    session.stamp = newId();
    session.time = Date.now();
    hasChanged = false;
    const whole = toSaved(session, { withSteps: true });
    let message = "";
    if (!putRaw(session.id, whole)) {
      const isThere = storage.isAvailable();
      const isShortened = isThere && putRaw(session.id, toSaved(session, { withSteps: false }));
      if (isShortened) message = SHORTENED;
      else if (putInTab(session.id, whole)) message = isThere ? FULL : ABSENT;
      else message = NOWHERE;
    }
    pause = Math.max(SAVE_PAUSE_MS, 20 * (performance.now() - began));
    if (message !== sessions.message) {
      sessions.message = message;
      emit("keeping", message);
    }
  },

  /** All sessions: the open one, then the one saved last first. */
  list() {
    sessions.save();
    const open = sessions.current.id;
    const found = savedIds().flatMap((id) => {
      const session = tryLoad(id);
      if (!session) return [];
      const { name, time, tree, written } = session;
      const bytes = 2 * (getRaw(id) ?? "").length;
      return [{ id, name, words: firstWords(written.text), time, nodes: tree.size, bytes, isOpen: id === open }];
    });
    if (!found.some(({ isOpen }) => isOpen)) {
      const { name, time } = sessions.current;
      found.push({ id: open, name, words: "", time, nodes: 0, bytes: 0, isOpen: true });
    }
    return found.sort((a, b) => Number(b.isOpen) - Number(a.isOpen) || b.time - a.time);
  },

  /** Returns whether it is open now. @param {string} id */
  open(id) {
    leave();
    if (id === sessions.current.id) return true;
    const session = tryLoad(id);
    if (session) putIn(session);
    return Boolean(session);
  },

  /** Open a new session with the default preset, else with the present settings. */
  begin() {
    leave();
    putIn({ ...newSession(), controls: defaultControls() ?? sessions.current.controls });
  },

  /** @param {string} id */
  duplicate(id) {
    leave();
    const session = tryLoad(id);
    if (!session) return;
    const name = nameOfCopy(session.name || firstWords(session.written.text) || t("branches.session"));
    putIn({ ...session, id: newId(), stamp: null, name });
    change();
    sessions.save();
  },

  /** @param {string} id @param {string} name */
  rename(id, name) {
    if (id === sessions.current.id) {
      sessions.current.name = name;
      change();
      sessions.save();
      return;
    }
    const session = tryLoad(id);
    if (session) putSomewhere(id, toSaved({ ...session, name, stamp: newId() }, { withSteps: true }));
  },

  /** Returns a function that brings it back. @param {string} id */
  remove(id) {
    sessions.save();
    const raw = getRaw(id);
    const wasOpen = id === sessions.current.id;
    if (wasOpen) putIn(newSession());
    removeFromTab(id);
    storage.remove(PREFIX + id);
    return () => {
      if (raw === null) return;
      putSomewhere(id, raw);
      if (wasOpen) sessions.open(id);
    };
  },

  /** The open session as a file: its name, type and content. @param {"json" | "markdown" | "text"} form */
  export(form) {
    leave();
    return toFile(sessions.current, form);
  },

  /** Open the session that a file holds; raises an error whose message is for people. @param {File} file */
  async import(file) {
    checkSize(file);
    const session = fromFile(await file.text());
    if (sessions.current.tree.growing.length) throw new Error(t("branches.wait"));
    leave();
    putIn(session);
    change();
    sessions.save();
  },
};

rememberInTab(sessions.current.id);

globalThis.addEventListener?.("beforeunload", (event) => {
  sessions.save();
  if (inMemory.size) event.preventDefault(); // the browser asks whether to leave
});
globalThis.addEventListener?.("pagehide", () => sessions.save());
globalThis.document?.addEventListener("visibilitychange", () => document.hidden && sessions.save());
globalThis.addEventListener?.("storage", ({ key }) => (key === null || key.startsWith(PREFIX)) && emit("stored"));
