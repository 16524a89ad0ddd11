// The running request, kept in the tab's session storage. After a lost connection or a reload, the page makes the
// request again with the same seed, so the text is the same.

import * as storage from "./storage.js";

const REQUEST = "gptj-playground/pending";
const LENGTH = "gptj-playground/pending-length"; // stored separately, because it changes with every word
const TYPED = "gptj-playground/typed-ahead/"; // followed by the id of the session
const MOST_TRIES = 3;

/**
 * `session` is the id of the session that it writes into, `prompt` the text before it, `controls` all values with
 * the seed once that is known, `tries` how often it was made again, `rest` the text that follows its words, `fills`
 * whether drafts are ranked by how well they fit `rest`, `ending` where the words end, `memory` what is read besides
 * the text, `typed` the words between its own and `rest`, which were typed while it ran.
 * @typedef {{session: string, prompt: string, controls: Controls, tries: number, rest?: string, fills?: boolean, ending?: string,
 *            memory?: import("./memory.js").Memory | null, typed?: string}} PendingRequest
 */

/** @param {any} found @returns {found is PendingRequest} */
function isRequest(found) {
  return (
    typeof found?.session === "string" &&
    typeof found.prompt === "string" &&
    typeof found.tries === "number" &&
    typeof (found.rest ?? "") === "string" &&
    typeof (found.fills ?? false) === "boolean" &&
    typeof (found.ending ?? "") === "string" &&
    typeof (found.typed ?? "") === "string" &&
    typeof (found.memory ?? {}) === "object" &&
    typeof found.controls === "object" &&
    found.controls !== null
  );
}

/** @param {PendingRequest} request */
export function keep(request) {
  storage.write(REQUEST, JSON.stringify(request), "sessionStorage");
}

/** Keep what is typed while the request runs; it is inserted when the request is over. @param {string} session @param {string} text */
export function keepTyped(session, text) {
  if (text) storage.write(TYPED + session, text, "sessionStorage");
  else storage.remove(TYPED + session, "sessionStorage");
}

/** Note that these words are inserted behind those of the request. Returns the text that follows; null without a request. @param {string} session @param {string} typed */
export function insertTyped(session, typed) {
  const found = storage.readJSON(REQUEST, "sessionStorage");
  if (!isRequest(found) || found.session !== session) return null;
  keep({ ...found, typed: found.typed || typed }); // later words follow these
  return found.rest ?? "";
}

/** @param {string} session */
export const typedIn = (session) => storage.read(TYPED + session, "sessionStorage") ?? "";

/** Change the id of the session that the request writes into. @param {string} before @param {string} session */
export function move(before, session) {
  keepTyped(session, typedIn(before));
  keepTyped(before, "");
  const found = storage.readJSON(REQUEST, "sessionStorage");
  if (found?.session === before) keep({ ...found, session });
}

/** Keep how many characters of its text are shown. @param {number} length */
export function keepLength(length) {
  storage.write(LENGTH, String(length), "sessionStorage");
}

export function drop() {
  storage.remove(REQUEST, "sessionStorage");
  storage.remove(LENGTH, "sessionStorage");
}

/**
 * The request to make again in a session with this text, and its words that are shown; it is removed from storage. It
 * is lost, and stays lost, if it was tried too often or the text has changed since. Words that were typed while it ran
 * can have been inserted behind its own, and continued.
 * @param {string} session @param {string} text
 * @returns {{request: (PendingRequest & {shown: string}) | null, isLost: boolean}}
 */
export function take(session, text) {
  const raw = storage.read(REQUEST, "sessionStorage");
  const none = { request: null, isLost: false };
  if (raw === null) return none;
  const length = Number(storage.read(LENGTH, "sessionStorage") ?? 0);
  let found;
  try {
    found = JSON.parse(raw);
  } catch {
    found = null;
  }
  if (!isRequest(found)) {
    drop();
    return none;
  }
  const end = found.prompt.length + length;
  const { typed = "", ...own } = found;
  const { rest = "" } = own;
  const after = text.slice(end);
  const inserted = after.endsWith(rest) ? after.slice(0, after.length - rest.length) : null;
  const isExpected = inserted === "" || (inserted !== null && typed !== "" && inserted.startsWith(typed));
  const isHere = found.session === session && text.startsWith(found.prompt) && text.length >= end && isExpected;
  if (!isHere || found.tries >= MOST_TRIES) {
    keep({ ...found, tries: MOST_TRIES }); // also after a reload, until it is dropped
    return { request: null, isLost: true };
  }
  drop();
  const shown = text.slice(found.prompt.length, end);
  return { request: { ...own, tries: own.tries + 1, shown, ...(inserted ? { typed: inserted } : {}) }, isLost: false };
}
