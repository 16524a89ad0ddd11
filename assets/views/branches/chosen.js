// The chosen node beside the outline: its full text and its origin.

import { finder, make } from "../../components/dom.js";
import { describeMeasures } from "../../components/measures.js";
import { countCharacters } from "../../core/characters.js";
import { number, signed } from "../../core/format.js";
import { labelOf, locale, t, valueText } from "../../core/i18n.js";
import { measuresOf } from "../../core/measures.js";
import { sessions } from "../../core/sessions.js";
import { pieces } from "../../core/text.js";
import { words } from "./row.js";

/** @type {Record<string, string>} */
const KINDS = {
  write: t("branches.by_you"),
  edit: t("branches.by_you_instead"),
  generate: t("branches.by_model"),
  retry: t("branches.by_model_again"),
  alternative: t("branches.by_model_other"),
};

export class ChosenNode {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.$ = finder(root);
    this.drawn = ""; // the text when it was last drawn
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
    button("star").textContent = node.starred ? `★ ${t("branches.starred")}` : `☆ ${t("common.star")}`;
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
    fact(t("branches.origin"), `${KINDS[kind]} · ${new Date(time).toLocaleString(locale)}`);
    this.$(".chosen-prompt").hidden = !run;
    if (!run) return;
    fact(t("branches.ended_why"), isGrowing ? t("branches.model_writes") : run.message);
    fact(t("branches.token_count"), run.tokens === undefined ? "" : number(run.tokens));
    if (run.mean_logprob !== undefined) {
      const title = t("branches.mean_title");
      const measures = /** @type {NonNullable<ReturnType<typeof measuresOf>>} */ (measuresOf([run.mean_logprob]));
      fact(t("branches.mean"), [signed(run.mean_logprob, 3), ...describeMeasures(measures)].join(" · "), title);
    }
    const changed = Object.entries(run.controls ?? {}).map(([name, value]) => `${labelOf(name)} ${valueText(value)}`);
    fact(t("branches.settings"), changed.join(t("text.comma")) || t("branches.all_defaults"));
    fact(t("branches.seed"), run.seed === undefined ? "" : String(run.seed));
    fact(t("about.model"), run.model);
    fact(t("about.revision"), run.revision);
    fact(t("about.precision"), run.precision);
    const prompt = text.slice(0, run.prompt_length);
    this.$(".chosen-prompt summary").textContent = t("branches.prompt_of", { count: countCharacters(prompt) });
    this.$(".chosen-prompt p").textContent = prompt;
  }
}
