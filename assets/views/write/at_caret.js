// Writing in the middle of a text: if words follow the caret, the status line offers to write there and to fill in.

import { find, onPress, update } from "../../components/dom.js";

/**
 * Where to insert words for a caret at `at`: before a space in front of it, because they begin with a space of their
 * own; null if only white space follows.
 * @param {string} text @param {number} at
 */
function placeFor(text, at) {
  if (!at || !text.slice(at).trim()) return null;
  return text[at - 1] === " " && at > 1 ? at - 1 : at;
}

/**
 * `write(at, fills)` lets the model write there; `isRunning()`: whether it writes already.
 * @param {HTMLElement} root @param {HTMLTextAreaElement} area
 * @param {{isRunning: () => boolean, write: (at: number, fills: boolean) => void}} editor
 */
export function offerAtCaret(root, area, { isRunning, write }) {
  const line = find(root, ".in-midst");
  const place = () => (area.selectionStart === area.selectionEnd ? placeFor(area.value, area.selectionEnd) : null);

  function show() {
    update(line, { hidden: isRunning() || place() === null });
  }

  /** @param {boolean} fills */
  function go(fills) {
    const at = place();
    if (at !== null && !isRunning()) write(at, fills);
  }

  document.addEventListener("selectionchange", () => document.activeElement === area && show());
  area.addEventListener("keydown", (event) => {
    // Alt+Enter, because Ctrl+Enter continues at the end of the text
    if (event.key !== "Enter" || !event.altKey || event.ctrlKey || event.metaKey || event.isComposing) return;
    event.preventDefault();
    go(event.shiftKey);
  });
  onPress(line, { here: () => go(false), fill: () => go(true) });
  return { show };
}
