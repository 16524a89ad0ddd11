// The chosen node beside the outline: its whole text, and what is known of how it came about.

import { finder, make } from "../../components/dom.js";
import { number, plural, signed } from "../../core/format.js";
import { sessions } from "../../core/sessions.js";
import { pieces } from "../../core/text.js";
import { words } from "./row.js";

/** @type {Record<string, string>} */
const KINDS = {
  write: "Written by you",
  edit: "Written by you, in the place of other words",
  generate: "Written by the model",
  retry: "Written by the model, another try",
  alternative: "Written by the model, from another token",
};

export class ChosenNode {
  /** @param {HTMLElement} root @param {Record<string, string>} labels the controls' names */
  constructor(root, labels) {
    this.$ = finder(root);
    this.labels = labels;
    this.drawn = ""; // what the text was when it was drawn
  }

  /** @param {TreeNode | null} node */
  draw(node) {
    this.$(".chosen").hidden = !node;
    if (!node) return;
    const { tree } = sessions.current;
    const list = tree.piecesOf(node.id);
    const text = pieces.text(list);
    const key = `${node.id} ${node.at} ${text}`;
    if (key !== this.drawn) this.drawText(node, list);
    this.drawn = key;
    const name = this.$(".chosen-name", HTMLInputElement);
    if (document.activeElement !== name) name.value = node.name;
    const button = (/** @type {string} */ action) => this.$(`[data-action="${action}"]`, HTMLButtonElement);
    const isWriting = tree.growing.length > 0;
    button("star").setAttribute("aria-pressed", String(node.starred));
    button("star").textContent = node.starred ? "★ Starred" : "☆ Star";
    button("use-settings").disabled = !node.run;
    button("prune").disabled = isWriting;
    button("open").disabled = isWriting;
    this.drawFacts(node, text, tree.isGrowing(node.id));
  }

  /** @param {TreeNode} node @param {Piece[]} list */
  drawText(node, list) {
    const sheet = this.$(".chosen-text");
    const own = make("span", "own");
    own.append(...words(pieces.slice(list, node.at, Infinity)));
    sheet.replaceChildren(...words(pieces.slice(list, 0, node.at)), own);
    sheet.scrollTop = Math.max(0, own.offsetTop - sheet.offsetTop - sheet.clientHeight / 3);
  }

  /** @param {TreeNode} node @param {string} text @param {boolean} isGrowing */
  drawFacts({ kind, time, run }, text, isGrowing) {
    const list = this.$(".facts");
    list.replaceChildren();
    const fact = (/** @type {string} */ name, /** @type {string | undefined} */ value, title = "") => {
      if (!value) return;
      list.append(Object.assign(make("dt", "", name), { title }), make("dd", "", value));
    };
    fact("Origin", `${KINDS[kind]}, ${new Date(time).toLocaleString()}`);
    this.$(".chosen-prompt").hidden = !run;
    if (!run) return;
    fact("Ended", isGrowing ? "The model is writing." : run.message);
    fact("Tokens", run.tokens === undefined ? "" : number(run.tokens));
    if (run.mean_logprob !== undefined) {
      const title = "Mean log-probability of a token, by the model itself; and its perplexity";
      fact("Mean log-p", `${signed(run.mean_logprob, 3)} (perplexity ${Math.exp(-run.mean_logprob).toPrecision(3)})`, title);
    }
    const changed = Object.entries(run.controls ?? {}).map(([name, value]) => `${this.labels[name] ?? name} ${JSON.stringify(value)}`);
    fact("Settings", changed.join(", ") || "all controls at their defaults");
    fact("Seed", run.seed === undefined ? "" : String(run.seed));
    fact("Model", run.model);
    fact("Revision", run.revision);
    fact("Precision", run.precision);
    this.$(".chosen-prompt summary").textContent = `Prompt, ${plural(run.prompt_length, "character")}`;
    this.$(".chosen-prompt p").textContent = text.slice(0, run.prompt_length);
  }
}
