// The messages of a view: a notice that can be dismissed, and a status line for screen readers only.

import { t } from "../core/i18n.js";
import { useControls } from "../core/state.js";
import { finder, makeButton } from "./dom.js";

/** @typedef {[name: string, press: () => void]} Action a button of a notice */

/**
 * The buttons for a text that exceeds the context; `goOn` repeats the request with its beginning left out.
 * @param {() => void} goOn @returns {Action[]}
 */
export const leaveOut = (goOn) => [
  [t("editor.leave_out"), goOn],
  [t("editor.leave_out_always"), () => useControls({ truncate: "left" }).then(goOn)],
];

/** @param {HTMLElement} root an element with a `.notice`, with `.remark-actions` in it where actions are shown, and with a `[role="status"]` where `say` is called */
export function noticesOf(root) {
  const $ = finder(root);
  return {
    /** @param {string} text */
    say(text) {
      $('[role="status"]').textContent = text;
    },
    /** @param {string} message @param {Action[]} [actions] */
    showNotice(message, actions = []) {
      $(".notice p").textContent = message;
      root.querySelector(".notice .remark-actions")?.replaceChildren(...actions.map(([name, press]) => makeButton("link", name, press)));
      $(".notice").hidden = false;
    },
    hideNotice() {
      $(".notice").hidden = true;
    },
  };
}
