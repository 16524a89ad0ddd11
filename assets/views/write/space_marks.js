// Signs over the spaces and line ends of the text, while tokens are shown. They lie over the ink in a layer of
// their own, so that the text's layout stays.

import { find, make } from "../../components/dom.js";

const PAUSE_MS = 120;
const LIVE_PAUSE_MS = 1000; // while words arrive: each drawing measures the characters in view
const MOST = 3000;
/** @type {Record<string, string>} */
const SIGNS = { " ": "·", "\n": "↵", "\t": "⇥" };

export class SpaceMarks {
  /** @param {import("./sheet.js").Sheet} sheet */
  constructor(sheet) {
    this.sheet = sheet;
    this.layer = find(sheet.box, ".marks");
    this.timer = /** @type {ReturnType<typeof setTimeout> | null} */ (null);
  }

  clear() {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.layer.replaceChildren();
  }

  /** After a short pause, draw the marks of a range of the text, which is given in characters. @param {() => {nodes: {node: Text, start: number}[], from: number, to: number}} view @param {boolean} isLive */
  drawLater(view, isLive) {
    this.timer ??= setTimeout(
      () => {
        this.timer = null;
        this.draw(view());
      },
      isLive ? LIVE_PAUSE_MS : PAUSE_MS,
    );
  }

  /** @param {{nodes: {node: Text, start: number}[], from: number, to: number}} view */
  draw({ nodes, from, to }) {
    const origin = this.layer.getBoundingClientRect();
    const range = document.createRange();
    const marks = document.createDocumentFragment();
    let count = 0;
    for (const { node, start } of nodes) {
      if (start + node.length <= from || start >= to || !node.isConnected) continue;
      for (const { index, 0: space } of node.data.matchAll(/[ \n\t]/g)) {
        if ((count += 1) > MOST) break;
        range.setStart(node, index);
        range.setEnd(node, index + 1);
        const place = [...range.getClientRects()].at(0);
        if (!place) continue;
        const mark = marks.appendChild(make("span", space === "\n" ? "line-end" : "", SIGNS[space]));
        mark.style.translate = `${(place.left - origin.left).toFixed(1)}px ${(place.top - origin.top).toFixed(1)}px`;
        mark.style.height = `${place.height}px`;
        if (space !== "\n") mark.style.width = `${place.width}px`;
      }
    }
    this.layer.replaceChildren(marks);
  }
}
