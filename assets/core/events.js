// Events between the parts of the page, which know nothing of each other:
//   status        the model and its streams, as the server reports them; kept as state.status
//   refresh-status asks for the status now
//   controls      the values of all controls by name, whenever one changed; kept as state.controls
//   use-controls  asks the editor's server part to set the controls to state.wanted
//   record        one record of the request that the editor runs; "begin" has the text that was sent, the
//                 controls it has other than the panel, and what the tree needs (core/sessions.js)
//   written       the model's latest words as they now stand in the text, null where they do not
//   text          asks the editor to put this text in the place of its own, as one step; {text, words}
//                 where the last words are a model's
//   replay        asks the editor to write anew what came after a prompt: {prompt, controls}
//   notice        asks the editor to show this sentence
//   take          asks the editor to put this completion in the place of the model's latest words
//   aside         asks the editor to show a remark with an Undo: {message, controls}, where `controls` are
//                 the values that undoing restores
//   open          asks the editor to put this node of the tree in the place of its text, as one step
//   view          the name of the view that is now shown
//   tree          the session's tree has changed
//   session       another session is open: sessions.current
//   keeping       why the open session is not kept as it should be, empty where it is
//   stored        another tab has saved or deleted a session

const KEPT = new Set(["status", "controls"]); // whoever asks later gets the latest one
const bus = new EventTarget();
const latest = new Map();

/** @param {string} name @param {any} [detail] */
export function emit(name, detail) {
  if (KEPT.has(name)) latest.set(name, detail);
  bus.dispatchEvent(new CustomEvent(name, { detail }));
}

/**
 * Call `handle` on every event of this name; of those that are kept also with the latest, a moment later.
 * Returns a function that ends it.
 * @param {string} name @param {(detail: any) => void} handle
 */
export function on(name, handle) {
  const listener = (/** @type {Event} */ event) => handle(/** @type {CustomEvent} */ (event).detail);
  bus.addEventListener(name, listener);
  if (latest.has(name)) queueMicrotask(() => handle(latest.get(name)));
  return () => bus.removeEventListener(name, listener);
}
