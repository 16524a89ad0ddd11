// The influence of each part of a prompt on the continuation: each was left out in turn.

import { find, make, visible } from "../../components/dom.js";
import { percent } from "../../core/format.js";
import { FULL_COLOUR } from "./comparison.js";
import { Ribbon, showScale } from "./ribbon.js";
import { change, clip, difference, shown } from "./words.js";
import { nodes, t } from "../../core/i18n.js";

/** @typedef {{parts: string[], tokens: {text: string}[], dropped: number, isCut: boolean, whole: number[] | null, without: number[][]}} Attribution */

export class PartsPanel {
  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.panel = panel;
    this.says = find(panel, ".why-says");
    /** @type {Attribution} */
    this.found = { parts: [], tokens: [], dropped: 0, isCut: false, whole: null, without: [] };
    this.hasResult = false;
    this.part = /** @type {number | null} */ (null); // the pressed part or token of the continuation
    this.token = /** @type {number | null} */ (null);
    this.parts = new Ribbon(panel, "parts", {
      look: (part, line) => this.lookAtPart(part, line),
      choose: (part) => this.choose(this.part === part ? null : part, null),
    });
    this.words = new Ribbon(panel, "attributed", {
      look: (token, line) => this.lookAtWord(token, line),
      choose: (token) => this.choose(null, this.token === token ? null : token),
    });
  }

  /** @param {Attribution | null} found null: nothing is shown */
  set(found) {
    if (found) this.found = found;
    this.hasResult = found !== null;
    this.part = this.token = null;
  }

  /** @param {number | null} part @param {number | null} token */
  choose(part, token) {
    this.part = part;
    this.token = token;
    this.show();
  }

  /** How much log-probability a part gave to a token, or to all of them. @param {number} part @param {number | null} token */
  influence(part, token) {
    const { without, whole } = this.found;
    if (!without[part] || !whole) return 0;
    if (token !== null) return whole[token] - without[part][token];
    return whole.reduce((sum, logprob, i) => sum + logprob - without[part][i], 0);
  }

  /** @param {number} part @param {HTMLElement} line */
  lookAtPart(part, line) {
    const { parts, tokens } = this.found;
    const delta = -this.influence(part, this.token);
    const values = { part: visible(clip(parts[part])), change: make("b", "", change(delta)), logprob: difference(delta) };
    if (this.token === null) line.append(...nodes("why.without_part", values));
    else line.append(...nodes("why.without_part_word", { ...values, word: visible(tokens[this.token].text) }));
  }

  /** @param {number} token @param {HTMLElement} line */
  lookAtWord(token, line) {
    const { parts, tokens, whole } = this.found;
    const logprob = whole?.[token] ?? 0;
    const values = { word: visible(tokens[token].text), percent: percent(logprob) };
    if (this.part === null) return line.append(...nodes("why.after_whole", values));
    const delta = -this.influence(this.part, token);
    const without = { part: visible(clip(parts[this.part])), percent_without: percent(logprob + delta) };
    line.append(...nodes("why.after_whole_without", { ...values, ...without, change: make("b", "", change(delta)) }));
  }

  show() {
    this.panel.hidden = !this.hasResult;
    if (!this.hasResult) return;
    const { part, token } = this;
    const { parts, tokens, whole, dropped, isCut } = this.found;
    const values = parts.map((_, i) => this.influence(i, token));
    const span = Math.max(Math.LN2, ...values.map(Math.abs));
    this.parts.fill(
      parts.map((text, i) => ({
        text,
        label: `${shown(clip(text))}: ${t("why.without_it", { change: change(-values[i]) })}`,
        strength: values[i] / span,
        chosen: i === part,
      })),
    );
    this.words.fill(
      tokens.map(({ text }, i) => {
        const delta = part === null ? null : -this.influence(part, i);
        const said = delta === null ? (whole ? percent(whole[i]) : "") : t("why.without_the_part", { change: change(delta) });
        return { text, label: `${shown(text)}: ${said}`, strength: delta === null ? null : -delta / FULL_COLOUR, chosen: i === token };
      }),
    );
    this.says.replaceChildren();
    if (part !== null) {
      this.says.append(...nodes("why.part_for_words", { part: visible(clip(parts[part])) }));
    } else if (token !== null) {
      this.says.append(...nodes("why.parts_for_word", { word: visible(tokens[token].text) }));
    } else {
      this.says.append(t("why.parts_for_all"));
    }
    if (isCut) this.says.append(` ${t("why.only_end")}`);
    else if (dropped) this.says.append(` ${t("why.dropped", { count: dropped })}`);
    const most = part === null ? span : FULL_COLOUR;
    showScale(this.panel, t("why.makes_it", { change: change(-most) }), change(most));
    this.parts.detail.textContent = t("why.point_at_part");
  }
}
