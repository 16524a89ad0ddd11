// The tree of likely continuations on the page: a row for each visible node, with keyboard and mouse navigation.

import { inlineArrows, make, visible } from "../../components/dom.js";
import { percent } from "../../core/format.js";
import { t } from "../../core/i18n.js";
import { LikelyTree } from "../../core/likely_tree.js";

/** @typedef {import("../../core/likely_tree.js").LikelyNode} LikelyNode */

export class LikelyOutline {
  /**
   * `chose()` is called after another node was chosen, `enter()` on Enter and on a double click.
   * @param {HTMLElement} box @param {{chose: () => void, enter: () => void}} view
   */
  constructor(box, view) {
    this.box = box;
    this.view = view;
    this.tree = new LikelyTree();
    this.chosen = /** @type {LikelyNode | null} */ (null);
    this.rows = /** @type {LikelyNode[]} */ ([]);
    box.addEventListener("keydown", (event) => this.key(event));
    box.addEventListener("click", (event) => this.click(event));
    box.addEventListener("dblclick", () => this.view.enter());
    let isPressed = false; // a press chooses its own row, the keyboard the first one
    for (const name of ["pointerdown", "mousedown"]) box.addEventListener(name, () => (isPressed = true));
    box.addEventListener("focus", () => {
      if (!this.chosen && !isPressed) this.choose(this.rows[0] ?? null);
      isPressed = false;
    });
  }

  /** @param {LikelyTree} tree */
  show(tree) {
    this.tree = tree;
    this.chosen = null;
    this.draw();
  }

  draw() {
    this.rows = this.tree.rows;
    if (this.chosen && !this.rows.includes(this.chosen)) this.chosen = null;
    this.box.replaceChildren(...this.rows.map((node, index) => this.row(node, index)));
    this.mark();
  }

  /** @param {LikelyNode} node @param {number} index */
  row(node, index) {
    const row = make("div", "likely-row");
    row.id = `likely-row-${index}`;
    row.setAttribute("role", "treeitem");
    row.setAttribute("aria-level", String(node.depth));
    row.setAttribute("aria-selected", "false");
    const isOpen = this.tree.open.has(node);
    if (node.children.length) row.setAttribute("aria-expanded", String(isOpen));
    row.style.setProperty("--level", String(node.depth - 1));
    row.style.setProperty("--probability", String(Math.exp(node.logprob)));
    const arrow = make("span", "likely-arrow", node.children.length ? (isOpen ? "▾" : "▸") : "");
    arrow.setAttribute("aria-hidden", "true");
    const token = node.ends ? make("span", "likely-end", t("likely.end")) : visible(node.token);
    const word = make("span", "likely-token");
    word.append(arrow, token);
    const hidden = node.children.length && !isOpen ? node.children.length : 0;
    if (hidden) word.append(make("span", "likely-more", `+${hidden}`));
    row.append(word, make("span", "likely-after", percent(node.logprob)), make("span", "likely-total", percent(node.total)));
    return row;
  }

  mark() {
    for (const row of this.box.querySelectorAll('[aria-selected="true"]')) row.setAttribute("aria-selected", "false");
    const index = this.chosen ? this.rows.indexOf(this.chosen) : -1;
    const row = this.box.children[index];
    if (!row) return this.box.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", row.id);
  }

  /** @param {LikelyNode | null} node */
  choose(node) {
    this.chosen = node;
    this.mark();
    this.view.chose(); // first: it shows the panel, which lies over rows on narrow pages
    if (node) this.box.children[this.rows.indexOf(node)]?.scrollIntoView({ block: "nearest" });
  }

  /** @param {LikelyNode} node @param {boolean} isOpen */
  toggle(node, isOpen) {
    if (isOpen) this.tree.open.add(node);
    else this.tree.open.delete(node);
    this.draw();
  }

  // ---- keyboard and mouse

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { chosen, rows } = this;
    const at = chosen ? rows.indexOf(chosen) : -1;
    const goTo = (/** @type {number} */ index) => this.choose(rows[Math.max(0, Math.min(rows.length - 1, index))] ?? null);
    const [inwards, outwards] = inlineArrows();
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => goTo(at + 1),
      ArrowUp: () => goTo(at - 1),
      Home: () => goTo(0),
      End: () => goTo(rows.length - 1),
      Enter: () => this.view.enter(),
      [inwards]: () => {
        if (!chosen?.children.length) return;
        if (this.tree.open.has(chosen)) goTo(at + 1);
        else this.toggle(chosen, true);
      },
      [outwards]: () => {
        if (!chosen) return;
        if (chosen.children.length && this.tree.open.has(chosen)) this.toggle(chosen, false);
        else if (chosen.parent?.parent) this.choose(chosen.parent);
      },
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** @param {MouseEvent} event */
  click({ target }) {
    const row = target instanceof Element ? target.closest(".likely-row") : null;
    const node = row && this.rows[[...this.box.children].indexOf(row)];
    if (!node || !(target instanceof Element)) return;
    const wasChosen = this.chosen === node;
    if (node.children.length && (wasChosen || target.closest(".likely-arrow, .likely-more"))) {
      this.toggle(node, !this.tree.open.has(node));
    }
    this.choose(node);
  }
}
