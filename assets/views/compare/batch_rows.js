// The results of a batch as a list, in the order of the file. Texts are untrusted and inserted as text only.

import { make, noWords } from "../../components/dom.js";
import { shorten } from "../../core/characters.js";
import { signed } from "../../core/format.js";
import { t } from "../../core/i18n.js";

const SHOWN_VALUE = 120; // characters

export class BatchRows {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    this.items = /** @type {Map<number, HTMLLIElement>} */ (new Map());
  }

  /** @param {import("../../core/batch.js").Batch} batch */
  show(batch) {
    this.items.clear();
    this.list.replaceChildren();
    batch.results.forEach((result, row) => result && this.update(batch, row));
  }

  /** Show the result of a row. @param {import("../../core/batch.js").Batch} batch @param {number} row */
  update(batch, row) {
    const result = batch.results[row];
    if (!result) return;
    const item = make("li", result.reason === "error" ? "is-broken" : "");
    const { columns, rows } = batch.file;
    const of = make("p", "batch-of");
    of.append(make("b", "", t("batch.row", { number: row + 1 })));
    for (const name of batch.asked.names) {
      of.append(make("span", "as-written", shorten((rows[row].values[columns.indexOf(name)] ?? "").replaceAll("\n", " "), SHOWN_VALUE)));
    }
    const text = make("p", "batch-text as-written", result.text.trimStart());
    text.dir = "auto";
    if (!result.text.trim()) text.append(noWords());
    const how = make("p", "batch-how");
    if (typeof result.mean_logprob === "number") {
      const mean = make("span", "", t("results.mean", { mean: signed(result.mean_logprob, 2) }));
      mean.title = t("compare.mean_title");
      how.append(mean);
    }
    if (result.completion_tokens) how.append(make("span", "", t("count.tokens", { count: result.completion_tokens })));
    how.append(make("span", "", result.message));
    item.append(of, text, how);
    this.put(row, item);
  }

  /** @param {number} row @param {HTMLLIElement} item */
  put(row, item) {
    const old = this.items.get(row);
    this.items.set(row, item);
    if (old) return old.replaceWith(item);
    let before = row - 1; // rows end nearly in their order
    while (before >= 0 && !this.items.has(before)) before -= 1;
    const previous = this.items.get(before);
    if (previous) previous.after(item);
    else this.list.prepend(item);
  }
}
