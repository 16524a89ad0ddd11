// The bar below the sheet: the scale of the colours, the score of the text, the token at the caret, and a plot
// of the surprise along the text.

import { find, setText, update, visible } from "../../components/dom.js";
import { describeMeasures } from "../../components/measures.js";
import { percent } from "../../core/format.js";
import { t } from "../../core/i18n.js";
import { measuresOf } from "../../core/measures.js";

const encoder = new TextEncoder();
const MOST_BITS = 14; // the height of the plot: 1 in 16,384
const PLOT_PAUSE_MS = 1000; // between two drawings while tokens arrive: one drawing can take several frames

export class TokenBar {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.box = find(root, ".token-bar");
    this.measures = find(this.box, ".measures");
    this.plot = find(this.box, "svg", SVGElement);
    this.end = find(this.box, ".end-token");
    this.score = find(this.box, ".score-text", HTMLButtonElement);
    this.plotting = /** @type {ReturnType<typeof setTimeout> | null} */ (null);
  }

  /** The button asks for a score, or stops the one that is waited for. @param {{isWaiting: boolean, isPossible: boolean}} score */
  showScore({ isWaiting, isPossible }) {
    setText(this.score, t(isWaiting ? "token.stop_scoring" : "editor.score_the_whole_text"));
    update(this.score, { disabled: !isPossible });
  }

  /** @param {Cell | null} cell */
  showCaret(cell) {
    const line = find(this.box, ".at-caret");
    if (line.firstChild) line.replaceChildren(); // avoids a needless layout
    if (!cell) return;
    line.append(t("token.at_caret"), " ", ...cell.tokens.map(({ text }) => visible(text)));
    if (cell.logprob !== null) line.append(` ${percent(cell.logprob)}`);
  }

  /**
   * Show the measures of the cells with known probabilities, if they reach the end of the text.
   * @param {Cell[]} cells @param {string} text
   */
  showMeasures(cells, text) {
    const isWhole = cells.at(-1)?.to === text.length;
    const known = isWhole ? cells.filter(({ logprob }) => logprob !== null) : [];
    const bytes = known.reduce((sum, { from, to }) => sum + encoder.encode(text.slice(from, to)).length, 0);
    const found = measuresOf(known.flatMap(({ tokens }) => tokens.map(({ logprob }) => logprob)), bytes);
    setText(this.measures, found ? [t("count.tokens", { count: found.tokens }), ...describeMeasures(found)].join(" · ") : "");
  }

  /** Schedule a drawing of the plot, at once if no words arrive. @param {() => void} draw @param {boolean} isLive */
  plotLater(draw, isLive) {
    this.plotting ??= setTimeout(() => {
      this.plotting = null;
      draw();
    }, isLive ? PLOT_PAUSE_MS : 0);
  }

  /** How surprised the model was along a text, in bits: a stroke a token, and their moving mean. @param {Cell[]} cells @param {number} length of the text */
  drawPlot(cells, length) {
    const figure = find(this.box, ".surprise");
    /** @type {[number, number][]} */
    const points = cells.flatMap(({ from, logprob }) =>
      logprob === null ? [] : [[(1000 * from) / length, Math.min(MOST_BITS, -logprob / Math.LN2)]],
    );
    figure.hidden = points.length < 2;
    if (figure.hidden) return;
    const height = (/** @type {number} */ bits) => (MOST_BITS - bits).toFixed(2);
    let [strokes, mean, sum] = ["", "", 0];
    const width = Math.max(4, Math.round(points.length / 60));
    points.forEach(([x, bits], i) => {
      strokes += `M${x.toFixed(1)} ${MOST_BITS}V${height(bits)}`;
      sum += bits - (points[i - width]?.[1] ?? 0);
      mean += `${i ? "L" : "M"}${x.toFixed(1)} ${height(sum / Math.min(width, i + 1))}`;
    });
    find(figure, ".strokes", SVGElement).setAttribute("d", strokes);
    find(figure, ".mean", SVGElement).setAttribute("d", mean);
    this.plot.setAttribute("aria-label", t("token.surprise"));
  }
}
