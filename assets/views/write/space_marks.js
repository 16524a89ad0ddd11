// Signs over the spaces and line ends of the text, while tokens are shown. They are in a layer of their own above the
// ink, so that the text's layout does not change. The layer is one SVG text with a position for each character: with
// an element for each sign, the browser would spend more time on them than on the text.

import { find } from "../../components/dom.js";

const PAUSE_MS = 120;
const LIVE_PAUSE_MS = 1000; // while words arrive: each drawing measures the characters in view
const MOST = 3000;
const LINE_END_PX = 14; // a line end has no width of its own
/** @type {Record<string, string>} */
const SIGNS = { " ": "·", "\n": "↵", "\t": "⇥" };

export class SpaceMarks {
  /** @param {import("./sheet.js").Sheet} sheet */
  constructor(sheet) {
    this.sheet = sheet;
    this.layer = find(sheet.box, ".marks", SVGElement);
    this.signs = find(this.layer, "text", SVGElement);
    this.timer = /** @type {ReturnType<typeof setTimeout> | null} */ (null);
  }

  clear() {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    this.signs.textContent = "";
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
    /** @type {string[][]} */
    const [signs, across, down] = [[], [], []];
    let count = 0;
    for (const { node, start } of nodes) {
      if (start + node.length <= from || start >= to || !node.isConnected) continue;
      for (const { index, 0: space } of node.data.matchAll(/[ \n\t]/g)) {
        if ((count += 1) > MOST) break;
        range.setStart(node, index);
        range.setEnd(node, index + 1);
        const place = [...range.getClientRects()].at(0);
        if (!place) continue;
        const middle = space === "\n" ? LINE_END_PX / 2 : place.width / 2;
        signs.push(SIGNS[space]);
        across.push((place.left - origin.left + middle).toFixed(1));
        down.push((place.top - origin.top + place.height / 2).toFixed(1));
      }
    }
    this.signs.textContent = signs.join("");
    this.signs.setAttribute("x", across.join(" "));
    this.signs.setAttribute("y", down.join(" "));
  }
}
