// The cells of a comparison as cards: in a grid, or as a list if sorted or on a narrow screen; and one cell in
// a dialog.

import { find, finder, make, makeButton, noWords, setText } from "../../components/dom.js";
import { signed } from "../../core/format.js";
import { labelOf, messageText, t, valueText } from "../../core/i18n.js";

/**
 * @typedef {string | import("../../core/i18n.js").ServerMessage} Part a visitor's own words, or a text of the page
 * @typedef {[label: Part, value: Part][]} Heading
 * @typedef {{row: number, column: number, prompt: number, settings: Controls, state: string, text: string, tokens: number,
 *            drafted_tokens?: number, dropped_tokens?: number, ahead?: number, end: any}} GridCell
 * @typedef {{rows: Heading[], columns: Heading[], prompts: string[], cells: GridCell[], controls: Controls}} Grid
 */

export class Cells {
  /** @param {HTMLElement} root @param {(index: number) => void} take puts a cell into the editor */
  constructor(root, take) {
    this.$ = finder(root);
    this.takeCell = take;
    this.dialog = this.$(".cell-dialog", HTMLDialogElement);
    this.grid = /** @type {Grid | null} */ (null);
    this.order = { by: "grid", isRising: false };
    /** @type {{card: HTMLElement, node: Text, take: HTMLButtonElement}[]} DOM nodes of each cell */
    this.cards = [];
    this.shown = /** @type {number | null} */ (null); // the index of the cell in the dialog
    this.narrow = matchMedia("(max-width: 860px)");
    this.narrow.addEventListener("change", () => this.layOut());
    this.$("#compare-order").addEventListener("change", ({ target }) => {
      const by = /** @type {HTMLSelectElement} */ (target).value;
      this.order = { by, isRising: by === "reason" };
      this.layOut();
    });
    this.dialog.addEventListener("close", () => (this.shown = null));
    this.dialog.addEventListener("click", ({ target }) => target === this.dialog && this.dialog.close()); // backdrop
  }

  /** @param {Grid} grid */
  show(grid) {
    this.dialog.close();
    this.grid = grid;
    this.cards = grid.cells.map((cell, index) => this.makeCard(grid, cell, index));
    this.$(".compare-results").hidden = false;
    this.layOut();
    grid.cells.forEach((_, index) => this.update(index));
  }

  /** @param {Grid} grid @param {GridCell} cell @param {number} index */
  makeCard(grid, cell, index) {
    const card = make("article", "cell");
    const heading = headingOf(grid, cell);
    writeHeading(card.appendChild(make("h3")), heading, t("compare.only_cell"));
    const text = card.appendChild(make("p", "cell-text as-written"));
    text.dir = "auto";
    const node = text.appendChild(document.createTextNode(""));
    const foot = make("div", "cell-foot");
    card.append(make("p", "cell-figures"), foot);
    const named = (/** @type {string} */ name, /** @type {string} */ title, /** @type {() => void} */ press) => {
      const button = makeButton("", name, press, { title });
      button.append(make("span", "sr-only", `: ${heading.map((pair) => pair.map(wordsOf).join(" ")).join(t("text.comma"))}`));
      return button;
    };
    const take = named(t("compare.to_editor"), t("compare.to_editor_title"), () => this.takeCell(index));
    const buttons = make("div", "cell-buttons button-row");
    buttons.append(named(t("compare.expand"), t("compare.expand_title"), () => this.expand(index)), take);
    foot.append(make("p", "card-end"), buttons);
    return { card, node, take };
  }

  /** Draw a changed cell; `added` was appended to its text. @param {number} index */
  update(index, added = "") {
    if (!this.grid) return;
    const cell = this.grid.cells[index];
    const { card, node, take } = this.cards[index];
    const $card = finder(card);
    if (added && node.length) node.appendData(added);
    else if (cell.text && !node.length) node.data = cell.text.trimStart();
    card.dataset.state = cell.state;
    card.classList.toggle("is-broken", cell.end?.reason === "error");
    writeFigures($card(".cell-figures"), cell);
    setText($card(".card-end"), progressOf(cell));
    const isBlank = Boolean(cell.end) && !cell.text.trim();
    if (isBlank && !card.querySelector(".no-words")) $card(".cell-text").append(noWords());
    take.disabled = !cell.end || isBlank;
    if (this.shown === index) this.showDialog(cell);
  }

  layOut() {
    if (!this.grid) return;
    const { cells } = this.grid;
    const box = this.$(".compare-cells");
    const isSorted = this.order.by !== "grid";
    const asList = isSorted || this.narrow.matches;
    box.classList.toggle("is-list", asList);
    for (const { card } of this.cards) find(card, "h3").classList.toggle("sr-only", !asList); // the table has headings
    const turn = this.$('[data-action="turn"]');
    turn.hidden = !isSorted;
    turn.textContent = this.order.isRising ? "↑" : "↓";
    turn.title = t(this.order.isRising ? "compare.lowest_first" : "compare.turn");
    turn.setAttribute("aria-label", turn.title);
    if (!asList) return box.replaceChildren(this.table(this.grid));
    const list = make("ol", "cell-list plain");
    for (const cell of this.inOrder) list.appendChild(make("li")).append(this.cards[cells.indexOf(cell)].card);
    box.replaceChildren(list);
  }

  turn() {
    this.order.isRising = !this.order.isRising;
    this.layOut();
  }

  get inOrder() {
    const cells = this.grid?.cells ?? [];
    const { by, isRising } = this.order;
    if (by === "grid") return cells;
    const figure = (/** @type {GridCell} */ cell) => cell.end?.[by] ?? null;
    return [...cells].sort((a, b) => {
      const [one, other] = [figure(a), figure(b)];
      if (one === null || other === null) return Number(one === null) - Number(other === null); // cells without a figure are last
      return (isRising ? 1 : -1) * (one < other ? -1 : one > other ? 1 : 0);
    });
  }

  /** @param {Grid} grid */
  table(grid) {
    const hasRowHeads = grid.rows.some((heading) => heading.length);
    const node = make("table");
    node.style.setProperty("--columns", String(grid.columns.length));
    node.setAttribute("aria-label", t("compare.table"));
    if (grid.columns.some((heading) => heading.length)) {
      const head = node.createTHead().insertRow();
      if (hasRowHeads) head.append(make("td", "corner"));
      for (const heading of grid.columns) writeHeading(headCell(head, "col"), heading);
    }
    const body = node.createTBody();
    grid.rows.forEach((heading, row) => {
      const line = body.insertRow();
      if (hasRowHeads) writeHeading(headCell(line, "row").appendChild(make("div", "compare-stay")), heading);
      grid.cells.forEach((cell, index) => cell.row === row && line.insertCell().append(this.cards[index].card));
    });
    return node;
  }

  // ---- one cell

  /** @param {number} index */
  expand(index) {
    if (!this.grid) return;
    this.shown = index;
    this.showDialog(this.grid.cells[index]);
    if (!this.dialog.open) this.dialog.showModal();
    this.$(".cell-whole").scrollTop = 0;
  }

  /** @param {GridCell} cell */
  showDialog(cell) {
    if (!this.grid) return;
    writeHeading(this.$(".cell-dialog h2"), headingOf(this.grid, cell), t("compare.only_cell"));
    this.$(".cell-prompt").textContent = this.grid.prompts[cell.prompt];
    this.$(".cell-words").textContent = cell.text;
    writeFigures(this.$(".cell-dialog .cell-figures"), cell);
    this.$(".cell-dialog .card-end").textContent = progressOf(cell);
    const said = Object.entries(cell.settings).map(([name, value]) => `${labelOf(name)} ${valueText(value)}`);
    if (cell.dropped_tokens) said.push(t("compare.dropped", { count: cell.dropped_tokens }));
    const nothing = cell.end?.filtered_away;
    if (nothing) said.push(t("compare.filtered_away", { count: nothing }));
    this.$(".cell-settings").textContent = said.join(" · ");
    const place = this.inOrder.indexOf(cell);
    this.$('[data-action="previous"]', HTMLButtonElement).disabled = place === 0;
    this.$('[data-action="next"]', HTMLButtonElement).disabled = place === this.inOrder.length - 1;
    this.$('[data-action="take-shown"]', HTMLButtonElement).disabled = !cell.end || !cell.text.trim();
  }

  /** @param {number} by */
  step(by) {
    if (!this.grid || this.shown === null) return;
    const cells = this.inOrder;
    const next = cells[cells.indexOf(this.grid.cells[this.shown]) + by];
    if (next) this.expand(this.grid.cells.indexOf(next));
  }
}

/** @param {Grid} grid @param {GridCell} cell @returns {Heading} */
export const headingOf = (grid, cell) => [...grid.rows[cell.row], ...grid.columns[cell.column]];

/** @param {Part} part */
export const wordsOf = (part) => (typeof part === "string" ? part : messageText(part));

/** Write pairs of a label and a value, each isolated in its text direction. @param {HTMLElement} node @param {Heading} heading */
function writeHeading(node, heading, otherwise = "") {
  node.textContent = heading.length ? "" : otherwise;
  for (const [label, value] of heading.map((parts) => parts.map(wordsOf))) {
    const pair = node.appendChild(make("span", "compare-pair"));
    pair.append(make("bdi", "compare-label", label), " ", make("bdi", "compare-value", value));
    pair.title = value;
  }
}

/** @param {HTMLTableRowElement} line @param {string} scope */
function headCell(line, scope) {
  const head = line.appendChild(make("th"));
  head.scope = scope;
  return head;
}

/** @param {GridCell} cell */
function progressOf(cell) {
  if (cell.end) return cell.end.message;
  if (cell.state === "queued") return t("compare.queued");
  if (cell.state === "waiting") return cell.ahead ? t("compare.ahead", { count: cell.ahead }) : t("run.starting");
  if (cell.state === "reconnecting") return t("run.reconnecting");
  if (cell.drafted_tokens && !cell.tokens) return t("compare.drafting", { count: cell.drafted_tokens });
  return t(cell.tokens ? "compare.writing" : "compare.reading");
}

/** @param {HTMLElement} node @param {GridCell} cell */
function writeFigures(node, cell) {
  const { mean_logprob, distinct_words, completion_tokens } = cell.end ?? {};
  const figures = [];
  if (typeof mean_logprob === "number") {
    figures.push([t("results.mean", { mean: signed(mean_logprob, 2) }), t("compare.mean_title")]);
  }
  if (typeof distinct_words === "number") {
    figures.push([t("compare.distinct", { percent: Math.round(100 * distinct_words) }), t("compare.distinct_title")]);
  }
  const tokens = completion_tokens || cell.tokens;
  if (tokens) figures.push([t("count.tokens", { count: tokens }), ""]);
  node.replaceChildren(...figures.map(([text, title]) => Object.assign(make("span", "", text), { title })));
}
