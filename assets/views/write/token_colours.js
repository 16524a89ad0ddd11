// The colours of tokens: highlights (CSS.highlights) over the ink, which do not change its layout; and the
// screen positions of a cell's characters.

import { levelOf } from "../../core/tokens.js";
import { SpaceMarks } from "./space_marks.js";

export class TokenColours {
  /** @param {import("./sheet.js").Sheet} sheet */
  constructor(sheet) {
    this.sheet = sheet;
    this.marks = new SpaceMarks(sheet);
    this.isPossible = "highlights" in CSS;
    this.scrolledTo = 0; // the scroll position at the last colouring
    this.nodes = /** @type {{node: Text, start: number}[]} */ ([]); // the ink's text nodes
    this.levels = /** @type {Highlight[]} */ ([]);
    this.every2nd = /** @type {Highlight | null} */ (null); // marks every second token
    this.current = /** @type {Highlight | null} */ (null); // the underline of the inspected token
    if (!this.isPossible) return;
    const named = (/** @type {string} */ name) => {
      const highlight = new Highlight();
      CSS.highlights.set(`gptj-${name}`, highlight);
      return highlight;
    };
    this.levels = [1, 2, 3, 4, 5].map((level) => named(`token-${level}`));
    this.every2nd = named("token-second");
    this.every2nd.priority = 1;
    this.current = named("token-current");
    this.current.priority = 2;
  }

  clear() {
    this.levels.forEach((highlight) => highlight.clear());
    this.every2nd?.clear();
    this.marks.clear();
    this.current?.clear();
  }

  /** Read the ink's text nodes again after it was rebuilt. */
  readNodes() {
    this.nodes = [...this.sheet.nodes()];
  }

  /**
   * Colour the cells in view and one view height around, because the browser walks all ranges on each change
   * of the page.
   * @param {Cell[]} cells @param {number} first the index of the first that ends behind the view's beginning
   * @param {number} to
   */
  paint(cells, first, to) {
    this.levels.forEach((highlight) => highlight.clear());
    this.every2nd?.clear();
    for (let i = first; i < cells.length && cells[i].from < to; i += 1) {
      const { logprob } = cells[i];
      const ends = this.endsOf(cells[i]);
      if (logprob !== null) this.levels[levelOf(logprob) - 1].add(new StaticRange(ends));
      if (i % 2) this.every2nd?.add(new StaticRange(ends));
    }
    this.scrolledTo = this.sheet.box.scrollTop;
  }

  /** @param {Cell | null} cell */
  underline(cell) {
    this.current?.clear();
    if (cell && cell.to > cell.from && this.nodes.length) this.current?.add(new StaticRange(this.endsOf(cell)));
  }

  /** The characters of the text nodes within one view height of the view. */
  get near() {
    const { top, bottom, height } = this.sheet.box.getBoundingClientRect();
    const range = document.createRange();
    let [from, to] = [0, 0];
    for (const { node, start } of this.nodes) {
      range.selectNodeContents(node);
      const place = range.getBoundingClientRect();
      if (place.height && place.top > bottom + height) break;
      to = start + node.length;
      if (place.height && place.bottom < top - height) from = to;
    }
    return { from, to };
  }

  /** The text node and the offset in it of a character's beginning, or of a character's end. @param {number} offset @param {boolean} isEnd @returns {[Text, number]} */
  pointOf(offset, isEnd) {
    let [low, high] = [0, this.nodes.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      const { start } = this.nodes[middle];
      if (isEnd ? start < offset : start <= offset) low = middle;
      else high = middle - 1;
    }
    const { node, start } = this.nodes[low];
    return [node, Math.min(node.length, offset - start)];
  }

  /** @param {{from: number, to: number}} cell */
  endsOf({ from, to }) {
    const [startContainer, startOffset] = this.pointOf(from, false);
    const [endContainer, endOffset] = this.pointOf(to, true);
    return { startContainer, startOffset, endContainer, endOffset };
  }

  /** The rectangles of a cell's lines in the window; a cell without characters has that of the character before. @param {Cell} cell */
  rectanglesOf(cell) {
    if (!this.nodes.length) return [];
    const ends = this.endsOf(cell.to > cell.from ? cell : { from: Math.max(0, cell.from - 1), to: cell.to });
    const range = document.createRange();
    range.setStart(ends.startContainer, ends.startOffset);
    range.setEnd(ends.endContainer, ends.endOffset);
    return [...range.getClientRects()];
  }

  /** The place between two characters that is nearest to a point of the window. @param {number} x @param {number} y */
  offsetUnder(x, y) {
    const { area } = this.sheet;
    const place = document.caretPositionFromPoint?.(x, y);
    if (place) return place.offsetNode === area ? place.offset : null;
    // a browser without it: ask for the ink below the textarea
    area.style.pointerEvents = "none";
    this.sheet.ink.inert = false;
    const range = document.caretRangeFromPoint?.(x, y);
    area.style.pointerEvents = "";
    this.sheet.ink.inert = true; // so that the browser's search finds each word once, in the textarea
    const found = range && this.nodes.find(({ node }) => node === range.startContainer);
    return found ? found.start + range.startOffset : null;
  }
}
