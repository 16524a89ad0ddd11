// The text on the page. A real textarea holds the text and the caret; its letters are transparent, and a
// backdrop with the same metrics, the ink, shows them in the colours of their writers. Texts are untrusted
// and inserted as text nodes only.

import { find } from "../../components/dom.js";
import { PERSON } from "../../core/text.js";

const END_SLACK_PX = 48;
// To paint or lay out a line, the browser walks its whole text node, so nodes are short. They end after a
// space, so that ligatures and joined letters stay together.
const SHORT_NODES = /[^]{1,500}\S*\s*/g;
const LEAST_BLOCK = 2000; // characters

export class Sheet {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.box = find(root, ".sheet");
    this.ink = find(root, ".ink");
    this.area = find(root, ".page textarea", HTMLTextAreaElement);
    this.wasAtEnd = true; // when the sheet shrinks, the end of the text is kept in view
    this.height = this.box.clientHeight; // [CSS pixels], when it was last observed
    this.scrolled = () => {}; // called when the sheet was scrolled
    this.box.addEventListener("scroll", () => {
      // the height before a change that the observer below has not seen yet
      this.wasAtEnd = this.distanceToEnd(this.height) < END_SLACK_PX;
      this.scrolled();
    });
    new ResizeObserver(() => {
      this.height = this.box.clientHeight;
      if (this.wasAtEnd) this.toEnd();
    }).observe(this.box);
  }

  /** Show pieces in the ink. @param {Piece[]} pieces */
  render(pieces) {
    const spans = this.ink.children;
    const parts = inBlocks(pieces);
    parts.forEach(({ text, name }, i) => {
      const span = spans[i] ?? this.ink.appendChild(document.createElement("span"));
      if (span.className !== name) span.className = name;
      fill(span, text);
    });
    while (spans.length > parts.length) spans[spans.length - 1].remove();
  }

  /** While an input method composes words, show the ink above the background that it paints. @param {boolean} isComposing */
  showComposing(isComposing) {
    this.box.classList.toggle("is-composing", isComposing);
    if (!isComposing) globalThis.CSS.highlights?.delete("composed");
  }

  /** Underline the characters that are being composed. @param {number} from @param {number} to */
  showComposed(from, to) {
    if (!globalThis.Highlight) return;
    CSS.highlights.set("composed", new Highlight(...this.rangesOf([[from, to]])));
  }

  /** Ranges of the ink for characters of the text. @param {Place[]} places */
  rangesOf(places) {
    const ranges = places.map(() => document.createRange());
    for (const { node, start } of this.nodes()) {
      places.forEach(([first, last], i) => {
        const [from, to] = [first - start, last - start];
        if (from >= 0 && from < node.length) ranges[i].setStart(node, from);
        if (to > 0 && to <= node.length) ranges[i].setEnd(node, to);
      });
    }
    return ranges;
  }

  /** Replace characters of the textarea, which keeps its selection. @param {number} at @param {number} length @param {string} text */
  replace(at, length, text) {
    this.area.setRangeText(text, at, at + length, "preserve");
  }

  /** @returns {Place} */
  get selection() {
    return [this.area.selectionStart, this.area.selectionEnd];
  }

  /** @param {Place} place */
  select([from, to]) {
    this.area.setSelectionRange(from, to);
    this.reveal(to);
  }

  focus() {
    this.area.focus({ preventScroll: true });
  }

  get isAtEnd() {
    return this.distanceToEnd(this.box.clientHeight) < END_SLACK_PX;
  }

  /** CSS pixels of the text below the view. @param {number} height of the view */
  distanceToEnd(height) {
    return this.box.scrollHeight - this.box.scrollTop - height;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
  }

  toStart() {
    this.box.scrollTop = 0;
    this.wasAtEnd = this.isAtEnd;
  }

  /** The ink's text nodes in order, each with the position of its first character. */
  *nodes() {
    const walker = document.createTreeWalker(this.ink, NodeFilter.SHOW_TEXT);
    let start = 0;
    while (walker.nextNode()) {
      const node = /** @type {Text} */ (walker.currentNode);
      yield { node, start };
      start += node.length;
    }
  }

  /** Scroll so that the character before `offset` can be seen. @param {number} offset */
  reveal(offset) {
    const place = this.placeOf(offset);
    if (!place) return;
    const view = this.box.getBoundingClientRect();
    if (place.bottom > view.bottom - 24) this.box.scrollTop += place.bottom - view.bottom + 64;
    else if (place.top < view.top + 24) this.box.scrollTop -= view.top - place.top + 64;
  }

  /** Whether the character before `offset` can be seen. @param {number} offset */
  shows(offset) {
    const [place, view] = [this.placeOf(offset), this.box.getBoundingClientRect()];
    return !place || (place.bottom > view.top && place.top < view.bottom);
  }

  /** Where the character before `offset` is in the window. @param {number} offset */
  placeOf(offset) {
    for (const { node, start } of this.nodes()) {
      const end = offset - start;
      if (end > node.length) continue;
      const range = document.createRange();
      range.setStart(node, Math.max(0, end - 1));
      range.setEnd(node, end);
      return range.getBoundingClientRect();
    }
    return null;
  }

  /** The left and right edge in the window of the last line on the screen of characters that have no line end. @param {Place} place */
  edgesOf([from, to]) {
    const last = to > from ? this.placeOf(to) : null;
    if (!last) return null;
    const middle = (last.top + last.bottom) / 2;
    const boxes = [...this.rangesOf([[from, to]])[0].getClientRects()].filter(({ top, bottom }) => top < middle && middle < bottom);
    return { left: Math.min(...boxes.map(({ left }) => left)), right: Math.max(...boxes.map(({ right }) => right)) };
  }

  /** Grey the first `end` characters, which the model does not read. @param {number} end 0: none */
  showUnread(end) {
    if (!globalThis.Highlight) return;
    CSS.highlights.delete("unread");
    if (!end || end > this.area.value.length) return;
    const range = document.createRange();
    range.setStart(this.ink, 0);
    for (const { node, start } of this.nodes()) {
      range.setEnd(node, Math.min(end - start, node.length));
      if (start + node.length >= end) break;
    }
    const highlight = new Highlight(range);
    highlight.priority = 10; // above the colours of the words
    CSS.highlights.set("unread", highlight);
  }

  /** Underline sentences that a filter flagged, if they are still in the text. @param {string[]} sentences */
  showMarked(sentences) {
    if (!globalThis.Highlight) return;
    CSS.highlights.delete("flagged");
    const text = this.area.value;
    const places = sentences.map((one) => /** @type {Place} */ ([text.indexOf(one), text.indexOf(one) + one.length]));
    const found = places.filter(([at]) => at >= 0);
    if (found.length) CSS.highlights.set("flagged", new Highlight(...this.rangesOf(found)));
  }
}

/**
 * Parts of the pieces with their class names. After a change, the browser lays out the whole block that contains it, so
 * whole lines of a long piece are blocks of their own, and only the other parts share a block.
 * @param {Piece[]} pieces
 */
function inBlocks(pieces) {
  const parts = /** @type {{text: string, name: string}[]} */ ([]);
  let startsLine = true;
  for (const [text, run] of pieces) {
    const name = run === PERSON ? "by-person" : "by-model";
    const add = (/** @type {number} */ from, /** @type {number} */ to, own = name) => to > from && parts.push({ text: text.slice(from, to), name: own });
    let from = 0;
    let start = startsLine ? 0 : text.indexOf("\n") + 1; // of the next block
    for (let end; (end = text.indexOf("\n", start + LEAST_BLOCK) + 1); start = from = end) {
      add(from, start);
      add(start, end, `${name} lines`);
    }
    add(from, text.length);
    startsLine = text.endsWith("\n");
  }
  return parts;
}

/** Put a text into a span as short text nodes; nodes with unchanged text are kept. @param {Element} span @param {string} text */
function fill(span, text) {
  const parts = text.match(SHORT_NODES) ?? [];
  parts.forEach((part, i) => {
    const node = /** @type {Text} */ (span.childNodes[i] ?? span.appendChild(document.createTextNode("")));
    if (node.data === part) return;
    if (part.startsWith(node.data)) node.appendData(part.slice(node.length));
    else node.data = part;
  });
  while (span.childNodes.length > parts.length) span.lastChild?.remove();
}
