// Probabilities in the text: the cells that are valid for the present text, their colours, the bar below, and
// the cell at a position.

import { find, update } from "../../components/dom.js";
import { t } from "../../core/i18n.js";
import { state } from "../../core/state.js";
import { Stretch, TokenMemory, readTokens } from "../../core/tokens.js";
import { Inspector } from "./inspector.js";
import { ScoreRequest } from "./score_request.js";
import { TokenBar } from "./token_bar.js";
import { TokenColours } from "./token_colours.js";
import { listen } from "./token_input.js";

const DEFAULT_ALTERNATIVES = 5;
const SCORE_PAUSE_MS = 1500; // between two scores of words that arrive without probabilities

/**
 * `root` is the editor; `text()` returns the text; `goOn` continues differently; `server` scores texts.
 * @typedef {{root: HTMLElement, sheet: import("./sheet.js").Sheet, text: () => string,
 *            goOn: (at: number, text: string, length: number | null, token: Token | null) => void,
 *            server: import("./score_request.js").Server}} Options
 */

export class TokenView {
  /** @param {Options} options */
  constructor({ root, sheet, text, goOn, server }) {
    this.root = root;
    this.sheet = sheet;
    this.text = text;
    this.goOn = goOn;
    this.server = server;
    this.memory = new TokenMemory();
    this.isOn = false;
    this.live = /** @type {Stretch[] | null} */ (null); // stretches of the running request, by completion
    /** @type {{prompt: string, length: number | null, back: number}} */
    this.request = { prompt: "", length: null, back: 0 };
    this.isColoured = true; // whether the running request brings probabilities
    this.cells = /** @type {Cell[]} */ ([]);
    this.painted = /** @type {string | null} */ (null); // the text of these cells
    this.growing = /** @type {Stretch | null} */ (null); // the stretch to which only cells were added
    this.seen = 0; // number of its cells already shown
    this.refusal = /** @type {{text: string, message: string} | null} */ (null);
    this.scoresAgain = false; // once the present score has come
    this.asking = /** @type {ScoreRequest | null} */ (null);
    this.bar = new TokenBar(root);
    this.colours = new TokenColours(sheet);
    this.inspector = new Inspector(this);
    find(this.bar.box, ".no-colours").hidden = this.colours.isPossible;
    listen(this);
  }

  toggle(on = !this.isOn) {
    this.isOn = on;
    this.bar.box.hidden = !on;
    this.root.classList.toggle("shows-tokens", on);
    if (!on) {
      this.inspector.hide();
      this.stopScore();
    }
    this.paint();
    if (!on) return;
    // score words that have no probabilities or predate a reload
    const words = this.sheet.ink.querySelector(".by-model")?.textContent?.trim();
    if (this.live && !this.isColoured) this.followByScores();
    else if (words && !this.cells.some(({ logprob }) => logprob !== null)) this.askForScore();
  }

  /** Score the growing text repeatedly, because the running request has no probabilities. */
  async followByScores() {
    while (this.isOn && this.live && !this.isColoured) {
      await this.askForScore();
      await new Promise((resolve) => setTimeout(resolve, SCORE_PAUSE_MS));
    }
  }

  /** The number of alternatives that a request asks for. */
  get wantedLogprobs() {
    const written = String(state.controls.logprobs ?? "").trim();
    return written === "" ? DEFAULT_ALTERNATIVES : written;
  }

  // ---- a request's records

  /** @param {string} prompt @param {number | null} length @param {boolean} isColoured whether probabilities will come */
  begin(prompt, length, isColoured) {
    this.live = [];
    this.isColoured = isColoured;
    this.request = { prompt, length, back: 0 };
    this.inspector.hide();
  }

  /** @param {number} index */
  completion(index) {
    const { prompt, length, back } = this.request;
    this.live ??= [];
    return (this.live[index] ??= this.memory.add(new Stretch(prompt, { length, back })));
  }

  /** @param {any} record */
  handle(record) {
    if (!this.live) return;
    if (record.event === "started") this.request.back = record.healed_length ?? 0;
    else if (record.event === "scored") this.keepScore(this.request.prompt, record);
    else if (record.event === "text" && record.text) this.completion(record.index).text += record.text;
    else if (record.event === "skipped") this.completion(record.index).skip(record.length);
    else if (record.event === "tokens") this.completion(record.index).add(record.tokens);
    else if (record.event === "finished") this.completion(record.index).close(record.tokens?.[0]);
  }

  /** End the request; a stopped one keeps its tokens. */
  end() {
    for (const stretch of this.live ?? []) if (stretch && !stretch.end) stretch.close();
    this.live = null;
    this.memory.stretches = this.memory.stretches.filter((s) => s.tokens.length || s.end);
    this.paint();
    if (!this.isOn || this.isColoured) return;
    this.scoresAgain = this.asking !== null; // the text has grown since its score was asked for
    this.askForScore();
  }

  /** Keep the known probabilities of a token that was chosen by hand. @param {string} prompt @param {string} text @param {Token} token */
  know(prompt, text, token) {
    const stretch = this.memory.add(new Stretch(prompt));
    stretch.text = text;
    stretch.add([{ ...token, length: text.length }]);
    stretch.close();
  }

  /** @param {string} text @param {any} score */
  keepScore(text, score) {
    this.memory.stretches = this.memory.stretches.filter((s) => !(s.isScore && s.text === text));
    this.memory.add(Stretch.ofScore(text, score.tokens, score.after));
  }

  async askForScore() {
    const text = this.text();
    if (this.asking || (this.live && this.isColoured) || !text) return;
    const request = new ScoreRequest(this.server, text, this.wantedLogprobs, (seconds) => {
      this.bar.measures.textContent = t("run.reading") + (seconds ? ` ${t("token.seconds", { seconds })}` : "");
    });
    this.asking = request;
    this.bar.showScore({ isWaiting: true, isPossible: !this.live });
    const answer = await request.answer;
    if (request.isStopped) return;
    this.asking = null;
    if (Array.isArray(answer.tokens)) this.keepScore(text, { ...answer, tokens: readTokens(answer.tokens) });
    else this.refusal = { text, message: answer.message };
    this.growing = null;
    this.paint();
    const { scoresAgain } = this;
    this.scoresAgain = false;
    if (scoresAgain && this.isOn) await this.askForScore();
  }

  stopScore() {
    if (!this.asking) return;
    this.asking.stop();
    this.asking = null;
    this.scoresAgain = false;
    this.paint();
  }

  // ---- display

  /** Show the valid cells. While words are added, only the new ones. */
  paint() {
    if (!this.isOn) {
      if (this.painted !== null) this.clear();
      return;
    }
    const text = this.text();
    this.colours.readNodes();
    const live = this.live?.[0] ?? null;
    if (live && this.growing === live && this.painted !== null && text.startsWith(this.painted)) {
      const until = live.prompt.length + live.text.length;
      while (this.seen < live.cells.length && live.cells[this.seen].to <= until) {
        this.cells.push(live.cells[this.seen]);
        this.seen += 1;
      }
    } else {
      this.cells = this.memory.cellsOf(text);
      this.growing = live;
      this.seen = this.cells.filter(({ stretch }) => stretch === live).length;
    }
    this.painted = text;
    this.colour();
    this.showBar(text);
    const shown = this.inspector.cell;
    if (shown && !this.cells.includes(shown) && this.memory.endOf(text) !== shown) this.inspector.hide();
    else this.colours.underline(shown);
  }

  clear() {
    this.colours.clear();
    this.cells = [];
    this.painted = null;
    this.growing = null;
  }

  colour() {
    if (!this.colours.isPossible) return;
    const { from, to } = this.colours.near;
    this.colours.paint(this.cells, this.firstFrom(from), to);
    this.colours.marks.drawLater(() => ({ nodes: this.colours.nodes, ...this.colours.near }), Boolean(this.live));
  }

  /** @param {string} text */
  showBar(text) {
    this.showCaret();
    this.bar.showScore({ isWaiting: this.asking !== null, isPossible: !this.live && text !== "" });
    if (!this.asking && this.refusal?.text === text) this.bar.measures.textContent = this.refusal.message;
    else if (!this.asking) this.bar.showMeasures(this.live ? [] : this.cells, text);
    update(this.bar.end, { hidden: !this.memory.endOf(text) });
    const draw = () => this.isOn && this.bar.drawPlot(this.cells, this.painted?.length ?? 0);
    this.bar.plotLater(draw, Boolean(this.live));
  }

  showCaret() {
    this.bar.showCaret(this.live ? null : this.cellAtCaret);
  }

  // ---- selection

  /** The index of the first cell that ends behind a character. @param {number} offset */
  firstFrom(offset) {
    let [low, high] = [0, this.cells.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cells[middle].to > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** The cell that a character is in. @param {number} offset @returns {Cell | undefined} */
  cellOf(offset) {
    const cell = this.cells[this.firstFrom(offset)];
    return cell?.from <= offset ? cell : undefined;
  }

  /** @param {Cell} cell */
  rectanglesOf(cell) {
    return cell.to > (this.painted?.length ?? 0) ? [] : this.colours.rectanglesOf(cell);
  }

  /** The cell under a point of the window, null where there is none. @param {number} x @param {number} y */
  cellUnder(x, y) {
    const offset = this.colours.offsetUnder(x, y);
    if (offset === null) return null;
    const holds = (/** @type {DOMRect} */ { left, right, top, bottom }) => x >= left && x <= right && y >= top && y <= bottom;
    const near = [offset, offset - 1].map((place) => this.cellOf(place));
    return near.find((cell) => cell && this.rectanglesOf(cell).some(holds)) ?? null;
  }

  /** The cell after the caret, or before it at the end of the text. */
  get cellAtCaret() {
    const at = this.sheet.area.selectionEnd;
    const text = this.text();
    const end = at === text.length ? this.memory.endOf(text) : null;
    return this.cellOf(at) ?? end ?? this.cellOf(at - 1) ?? null;
  }

  /** The next cell, or the one before, in the text's order; the end of the text is the last. @param {Cell} cell @param {number} step */
  neighbour(cell, step) {
    const end = this.memory.endOf(this.text());
    const all = end ? [...this.cells, end] : this.cells;
    return all[all.indexOf(cell) + step] ?? null;
  }
}
