// A table of tokens. Its rows are made once it is opened, some in each frame.

import { download, find, make, visible } from "../../components/dom.js";
import { tokensAsCSV } from "../../core/csv.js";
import { number, percent, signed } from "../../core/format.js";
import { labelOf, t } from "../../core/i18n.js";

const ROWS_A_FRAME = 100;

export class TokenTable {
  /**
   * @param {HTMLDetailsElement} details @param {boolean} after whether to show probabilities after the controls
   */
  constructor(details, after) {
    this.details = details;
    this.after = after;
    this.box = find(details, ".token-table");
    this.index = 0; // the index of the completion
    this.tokens = /** @type {Token[]} */ ([]);
    this.body = /** @type {HTMLTableSectionElement | null} */ (null);
    this.frame = /** @type {number | null} */ (null);
    const file = after ? "tokens.csv" : "prompt-tokens.csv";
    details.addEventListener("toggle", () => this.grow());
    find(details, ".save-table").addEventListener("click", () => download(file, "text/csv", tokensAsCSV(this.tokens)));
  }

  /** Show tokens. The list that is shown already may have grown; another list replaces it. @param {Token[]} tokens */
  show(tokens, index = 0) {
    if (tokens !== this.tokens) {
      this.tokens = tokens;
      this.index = index;
      this.body = null;
      this.box.replaceChildren();
    }
    this.grow();
  }

  grow() {
    if (!this.details.open || this.frame || !this.tokens.length) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.body ??= this.head();
      const made = this.body.rows.length;
      const next = this.tokens.slice(made, made + ROWS_A_FRAME);
      this.body.append(...next.map((token) => this.row(token)));
      if (made + next.length < this.tokens.length) this.grow();
    });
  }

  head() {
    const table = this.box.appendChild(make("table"));
    const head = table.createTHead().insertRow();
    const columns = [t("token.token"), t("token.model"), ...(this.after ? [t("token.after")] : []), t("token.rank"), t("token.likeliest")];
    for (const name of columns) head.appendChild(make("th", "", name)).scope = "col";
    return table.createTBody();
  }

  /** @param {Token} token */
  row(token) {
    const row = make("tr");
    row.insertCell().append(visible(token.text));
    this.probability(row, token.logprob);
    if (this.after) {
      const cell = this.probability(row, token.sampled_logprob);
      if (token.filtered_away) cell.append(make("small", "", ` ${t("token.nothing_left")}`));
    }
    row.insertCell().textContent = token.rank ? number(token.rank) : "";
    const others = row.insertCell();
    for (const other of token.alternatives ?? []) {
      const item = others.appendChild(make("span", "alternative"));
      item.classList.toggle("is-chosen", other.token_id === token.token_id);
      item.append(visible(other.text), ` ${percent(other.logprob)}`);
      if (other.removed_by) item.append(make("small", "", ` ✕ ${labelOf(other.removed_by)}`));
      else if (typeof other.sampled_logprob === "number") item.append(` → ${percent(other.sampled_logprob)}`);
    }
    return row;
  }

  /** @param {HTMLTableRowElement} row @param {number | null} logprob */
  probability(row, logprob) {
    const cell = row.insertCell();
    if (typeof logprob !== "number") return cell;
    cell.className = "probability";
    cell.style.setProperty("--probability", Math.exp(logprob).toFixed(4));
    cell.title = t("token.logprob", { value: signed(logprob, 4) });
    cell.textContent = percent(logprob);
    return cell;
  }
}
