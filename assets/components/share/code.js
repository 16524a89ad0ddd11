// The dialog with code that reproduces what is on the screen, in several languages.

import { t } from "../../core/i18n.js";
import { finder, inlineArrows, makeButton } from "../dom.js";
import { openDialog } from "./menu.js";

export class CodeDialog {
  /**
   * `screen()` is what is on the screen with its settings, `next()` what comes next; `ask(content)` gets the
   * code from the server.
   * @param {HTMLElement} element
   * @param {{screen: () => LinkContent, next: () => LinkContent, ask: (content: LinkContent) => Promise<any>}} options
   */
  constructor(element, options) {
    this.$ = finder(element);
    this.options = options;
    this.snippets = /** @type {{name: string, label: string, code: string}[]} */ ([]);
    this.way = ""; // the name of the selected snippet
    this.asked = 0;
    const tabs = this.$(".code-tabs");
    tabs.addEventListener("keydown", (event) => {
      const [forwards, backwards] = inlineArrows();
      const step = { [forwards]: 1, [backwards]: -1 }[event.key];
      if (!step || !this.snippets.length) return;
      event.preventDefault();
      const at = this.snippets.findIndex(({ name }) => name === this.way) + step;
      this.show(this.snippets[(at + this.snippets.length) % this.snippets.length].name);
      this.$(`#share-way-${this.way}`).focus();
    });
    this.$(".which-words").addEventListener("change", () => this.write());
  }

  open() {
    const hasWords = this.options.screen().words !== undefined;
    this.$(".which-words").hidden = !hasWords;
    this.$(`.which-words [value="${hasWords ? "last" : "next"}"]`, HTMLInputElement).checked = true;
    openDialog(this.$("#share-code", HTMLDialogElement));
    this.write();
  }

  async write() {
    const isLast = this.$('.which-words [value="last"]', HTMLInputElement).checked;
    const number = (this.asked += 1);
    const silent = { message: t("share.no_answer") };
    const answer = await this.options.ask(isLast ? this.options.screen() : this.options.next()).catch(() => silent);
    if (number !== this.asked) return;
    this.snippets = answer.snippets ?? [];
    this.$(".code-tabs").replaceChildren(
      ...this.snippets.map(({ name, label }) =>
        makeButton("", label, () => this.show(name), { id: `share-way-${name}`, role: "tab", "aria-controls": "share-snippet" }),
      ),
    );
    this.$('[data-share="copy-code"]', HTMLButtonElement).disabled = !this.snippets.length;
    const known = this.snippets.find(({ name }) => name === this.way) ?? this.snippets[0];
    if (known) this.show(known.name);
    else this.$(".code code").textContent = answer.message ?? t("share.no_code");
  }

  /** @param {string} way */
  show(way) {
    this.way = way;
    for (const { name, code } of this.snippets) {
      const tab = this.$(`#share-way-${name}`);
      tab.setAttribute("aria-selected", String(name === way));
      tab.tabIndex = name === way ? 0 : -1;
      if (name === way) this.$(".code code").textContent = code;
    }
    this.$(".code").setAttribute("aria-labelledby", `share-way-${way}`);
    this.$(".code").scrollTo(0, 0);
    this.$("#share-code .quiet-note").textContent =
      way === "transformers"
        ? t("share.runs_alone")
        : t("share.asks_playground");
  }
}
