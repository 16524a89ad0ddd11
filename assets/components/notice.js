// The messages of a view: a notice that can be dismissed, and a status line for screen readers only.

import { finder } from "./dom.js";

/** @param {HTMLElement} root an element with a `.notice`, and with a `[role="status"]` where `say` is called */
export function noticesOf(root) {
  const $ = finder(root);
  return {
    /** @param {string} text */
    say(text) {
      $('[role="status"]').textContent = text;
    },
    /** @param {string} message */
    showNotice(message) {
      $(".notice p").textContent = message;
      $(".notice").hidden = false;
    },
    hideNotice() {
      $(".notice").hidden = true;
    },
  };
}
