// Which parts of a prompt made the continuation likely: each was left out in turn.

import { find, make, visible } from "../../components/dom.js";
import { percent, plural } from "../../core/format.js";
import { FULL_COLOUR } from "./comparison.js";
import { Ribbon, showScale } from "./ribbon.js";
import { change, clip, difference, shown } from "./words.js";

/** @typedef {{parts: string[], tokens: {text: string}[], dropped: number, whole: number[] | null, without: number[][]}} Attribution */

export class PartsPanel {
  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.panel = panel;
    this.says = find(panel, ".why-says");
    /** @type {Attribution} */
    this.found = { parts: [], tokens: [], dropped: 0, whole: null, without: [] };
    this.hasResult = false;
    this.part = /** @type {number | null} */ (null); // what was pressed: a part, or a token of the continuation
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
    line.append("Without ", visible(clip(parts[part])));
    line.append(...(this.token === null ? [" the continuation"] : [" the word ", visible(tokens[this.token].text)]));
    line.append(" is ", make("b", "", change(delta)), `, log-probability ${difference(delta)}.`);
  }

  /** @param {number} token @param {HTMLElement} line */
  lookAtWord(token, line) {
    const { parts, tokens, whole } = this.found;
    const logprob = whole?.[token] ?? 0;
    line.append(visible(tokens[token].text), ` ${percent(logprob)} after the whole prompt`);
    if (this.part !== null) {
      const delta = -this.influence(this.part, token);
      line.append("; without ", visible(clip(parts[this.part])), ` ${percent(logprob + delta)}, `, make("b", "", change(delta)));
    }
    line.append(".");
  }

  show() {
    this.panel.hidden = !this.hasResult;
    if (!this.hasResult) return;
    const { part, token } = this;
    const { parts, tokens, whole, dropped } = this.found;
    const values = parts.map((_, i) => this.influence(i, token));
    const span = Math.max(Math.LN2, ...values.map(Math.abs));
    this.parts.fill(
      parts.map((text, i) => ({
        text,
        label: `${shown(clip(text))}: without it ${change(-values[i])}`,
        strength: values[i] / span,
        chosen: i === part,
      })),
    );
    this.words.fill(
      tokens.map(({ text }, i) => {
        const delta = part === null ? null : -this.influence(part, i);
        const said = delta === null ? (whole ? percent(whole[i]) : "") : `without the part ${change(delta)}`;
        return { text, label: `${shown(text)}: ${said}`, strength: delta === null ? null : -delta / FULL_COLOUR, chosen: i === token };
      }),
    );
    this.says.replaceChildren();
    if (part !== null) {
      this.says.append("What ", visible(clip(parts[part])), " does for each word of the continuation. Press it again to let go.");
    } else if (token !== null) {
      this.says.append("What each part does for the word ", visible(tokens[token].text), ". Press it again to let go.");
    } else {
      this.says.append("Coloured by what each part does for the whole continuation. Press a part to see for which words, a word to see which parts.");
    }
    if (dropped) this.says.append(` The prompt's first ${plural(dropped, "token")} did not fit and were left out.`);
    const most = change(part === null ? span : FULL_COLOUR);
    showScale(this.panel, `makes it ${most.replace("as likely", "less likely")}`, most);
    this.parts.detail.textContent = "Point at a part or a word, or walk with the arrow keys, for its numbers.";
  }
}
