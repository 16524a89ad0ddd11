// The tree as an outline with keyboard and mouse navigation. Rows have equal height, and only visible rows
// are in the DOM.

import { finder, inlineArrows, letterOf, make } from "../../components/dom.js";
import { sessions } from "../../core/sessions.js";
import { layOut } from "./layout.js";
import { ROW, drawRow } from "./row.js";

const SPARE_ROWS = 8; // above and below the visible rows
const DOUBLE_CLICK_MS = 500;

export class Outline {
  /**
   * `chose()` is called after another node was chosen; `actions` are the keys' actions on the chosen node,
   * `open(id)` puts a node into the editor.
   * @param {HTMLElement} root
   * @param {{chose: () => void, open: (id: string | null) => void, actions: Record<string, () => void>}} view
   */
  constructor(root, view) {
    this.$ = finder(root);
    this.view = view;
    this.box = this.$(".tree");
    this.content = this.box.appendChild(make("div", "tree-content"));
    this.content.setAttribute("role", "presentation");
    this.rows = /** @type {import("./layout.js").Row[]} */ ([]);
    this.chosen = /** @type {string | null} */ (null); // the id of the chosen node
    this.closed = /** @type {Set<string>} */ (new Set());
    this.unfolded = /** @type {Set<string>} */ (new Set());
    /** @type {{id: string | null, time: number}} */
    this.lastClick = { id: null, time: 0 };
    this.keys = this.makeKeys();
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
    this.box.addEventListener("scroll", () => this.drawRows(), { passive: true });
    new ResizeObserver(() => this.box.offsetParent && this.drawRows()).observe(this.box);
  }

  get tree() {
    return sessions.current.tree;
  }

  /** Show another session's tree. */
  reset() {
    this.closed.clear();
    this.unfolded.clear();
  }

  draw() {
    const { tree } = this;
    if (!tree.node(this.chosen)) {
      this.chosen = tree.current === tree.root.id ? (tree.childrenOf(tree.root.id)[0] ?? null) : tree.current;
    }
    this.layOut();
    this.drawRows();
    const isEmpty = tree.size === 0;
    this.$(".outline-empty").hidden = !isEmpty;
    for (const part of [".tree", ".outline-head", ".tree-keys"]) this.$(part).hidden = isEmpty;
  }

  layOut() {
    this.rows = layOut(this.tree, this);
    this.content.style.height = `${this.rows.length * ROW}px`;
  }

  drawRows() {
    const { box, rows, tree, chosen } = this;
    const deepest = rows.reduce((most, { level }) => Math.max(most, level), 1);
    const indent = Math.max(4, Math.min(18, (0.35 * box.clientWidth) / deepest));
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE_ROWS);
    const last = Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE_ROWS;
    const view = { tree, chosen, indent };
    this.content.replaceChildren(...rows.slice(first, last).map((row, i) => drawRow(row, first + i, view)));
    const active = this.rowOf(chosen);
    if (active >= first && active < last) box.setAttribute("aria-activedescendant", `branch-row-${active}`);
    else box.removeAttribute("aria-activedescendant");
  }

  /** @param {string | null} id */
  rowOf(id) {
    return this.rows.findIndex(({ node, fold }) => node?.id === id || fold?.some((inner) => inner.id === id));
  }

  /** @param {string | null} id */
  choose(id, { scroll = true } = {}) {
    const { box } = this;
    this.chosen = id;
    this.layOut(); // before scrolling
    const top = this.rowOf(id) * ROW;
    if (scroll && top >= 0) {
      if (top < box.scrollTop) box.scrollTop = top;
      else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
    }
    this.drawRows();
    this.view.chose();
  }

  // ---- navigation

  /** Choose the node of a row; a folded run is unfolded. @param {number} index */
  goTo(index) {
    const row = this.rows[Math.max(0, Math.min(this.rows.length - 1, index))];
    if (!row) return;
    const forwards = index >= this.rowOf(this.chosen);
    if (row.fold) this.unfolded.add(row.fold[0].id);
    this.choose((row.node ?? row.fold?.at(forwards ? 0 : -1))?.id ?? null);
  }

  /** @returns {Record<string, () => void>} */
  makeKeys() {
    const [inwards, outwards] = inlineArrows();
    const step = (/** @type {number} */ by) => this.goTo(this.rowOf(this.chosen) + by);
    const page = () => Math.floor(this.box.clientHeight / ROW) - 1;
    return {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      Home: () => this.goTo(0),
      End: () => this.goTo(this.rows.length - 1),
      PageDown: () => step(page()),
      PageUp: () => step(-page()),
      [inwards]: () => {
        const chosen = this.chosen ?? "";
        const [child] = this.tree.childrenOf(chosen);
        if (this.closed.delete(chosen)) this.choose(chosen);
        else if (child) this.choose(child);
      },
      [outwards]: () => {
        const chosen = this.chosen ?? "";
        const { parent } = this.tree.get(chosen);
        if (this.rows[this.rowOf(chosen)]?.isOpen && this.tree.childrenOf(chosen).length > 1) {
          this.closed.add(chosen);
          this.choose(chosen);
        } else if (parent !== this.tree.root.id) this.choose(parent);
      },
      Enter: () => this.view.open(this.chosen),
      ...this.view.actions,
    };
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const key = Object.hasOwn(this.keys, event.key) ? event.key : letterOf(event);
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(this.keys, key)) return;
    event.preventDefault();
    if (!this.tree.node(this.chosen)) return;
    this.layOut(); // changes since the last frame are not drawn yet
    this.keys[key]();
  }

  /** Detects double clicks itself: the first click redraws the rows, so the second one is on another element. @param {MouseEvent} event */
  click(event) {
    const row = this.rows[Math.floor((event.clientY - this.content.getBoundingClientRect().top) / ROW)];
    const id = (row?.node ?? row?.fold?.[0])?.id;
    if (!row || !id) return;
    if (!row.node) {
      this.unfolded.add(id);
      return this.choose(id);
    }
    if (row.isOpen !== undefined && /** @type {Element} */ (event.target).closest("svg, .hidden-count")) {
      if (!this.closed.delete(id)) this.closed.add(id);
    } else if (this.lastClick.id === id && event.timeStamp - this.lastClick.time < DOUBLE_CLICK_MS) {
      return this.view.open(id);
    } else {
      this.lastClick = { id, time: event.timeStamp };
    }
    this.choose(id, { scroll: false });
  }
}
