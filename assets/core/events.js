// Events between the modules of the page, which do not import each other:
//   status        the model and its streams, as the server reports them; kept as state.status
//   refresh-status asks for the status now
//   controls      the values of all controls by name, on every change; kept as state.controls
//   use-controls  asks the editor's server part to set the controls to state.wanted
//   record        one record of the editor's request; "begin" has the text that was sent, overrides of
//                 the panel, and the tree's data (core/sessions.js); "cut" takes characters from a
//                 completion's end
//   written       the model's latest words if they are still unchanged in the text, else null
//   text          asks the editor to replace its text by this one, as one step; {text, words} if the
//                 last words are a model's
//   to-start      asks the editor to show the beginning of its text
//   memory        asks the editor to read this memory besides the text, null for none
//   batch         asks Compare to fill this scaffold from a file of rows
//   walk          asks the editor to undo or redo a step
//   replay        asks the editor to generate again after a prompt: {prompt, controls}
//   notice        asks the editor to show this sentence
//   take          asks the editor to replace the model's latest words by this completion
//   aside         asks the editor to show a remark with an Undo: {message, controls, putBack}; undoing calls `putBack`, or restores
//                 the text and `controls`; there is no Undo where both are absent
//   open          asks the editor to replace its text by this node of the tree, as one step
//   view          the name of the view that is now shown
//   tree          the session's tree has changed
//   session       another session is open: sessions.current
//   keeping       why the open session cannot be saved, empty if it can
//   stored        another tab has saved or deleted a session

const KEPT = new Set(["status", "controls"]); // later listeners get the latest one
const bus = new EventTarget();
const latest = new Map();

/** @param {string} name @param {any} [detail] */
export function emit(name, detail) {
  if (KEPT.has(name)) latest.set(name, detail);
  bus.dispatchEvent(new CustomEvent(name, { detail }));
}

/**
 * Call `handle` on every event of this name; for kept events also with the latest one, asynchronously.
 * Returns a function that unsubscribes.
 * @param {string} name @param {(detail: any) => void} handle
 */
export function on(name, handle) {
  const listener = (/** @type {Event} */ event) => handle(/** @type {CustomEvent} */ (event).detail);
  bus.addEventListener(name, listener);
  if (latest.has(name)) queueMicrotask(() => handle(latest.get(name)));
  return () => bus.removeEventListener(name, listener);
}
