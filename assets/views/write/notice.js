// The editor's notice: a message with actions, which stays until it is dismissed or the text that it is about changes.

import { find, makeButton } from "../../components/dom.js";

export class Notice {
  /** @param {HTMLElement} root @param {{text: () => string}} editor */
  constructor(root, { text }) {
    this.box = find(root, ".notice");
    this.text = text;
    this.about = /** @type {string | null} */ (null); // the text that the notice is about
  }

  /**
   * `control` is the name of the control that is wrong; `actions` are labels of buttons, each with its handler.
   * @param {string} message @param {string} [control] @param {[string, () => void][]} [actions]
   * @param {string | null} [about] the text that the notice is about; null: no text
   */
  show(message, control, actions = [], about = this.text()) {
    this.hide();
    this.about = about;
    this.box.hidden = false;
    find(this.box, "p").textContent = message;
    find(this.box, ".remark-actions").replaceChildren(...actions.map(([name, act]) => makeButton("link", name, act)));
    if (!control) return;
    // a control in a closed group is on the page only when that is open
    const closed = document.querySelector(`.holds-${control} > button:not(.open)`);
    if (closed instanceof HTMLElement) closed.click();
    requestAnimationFrame(() => document.getElementById(`control-${control}`)?.setAttribute("data-wrong", ""));
  }

  hide() {
    this.about = null;
    this.box.hidden = true;
    document.querySelectorAll(".control[data-wrong]").forEach((node) => node.removeAttribute("data-wrong"));
  }

  textChanged() {
    if (this.about !== null && this.about !== this.text()) this.hide();
  }
}
