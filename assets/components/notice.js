// What a view says: a line to be read and dismissed, and a line for screen readers alone.

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
