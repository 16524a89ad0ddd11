// Probabilities in the text: which characters each token stands for and how likely it was, the colours, and
// the bar with their scale, what is known of the text as a whole, and its surprise as a plot. The colours
// are highlights (CSS.highlights) laid over the ink, so that nothing of its layout changes.

import { visible } from "../../components/dom.js";
import { percent, plural } from "../../core/format.js";
import { state } from "../../core/state.js";
import { Stretch, TokenMemory, levelOf, readTokens } from "../../core/tokens.js";
import { Inspector } from "./inspector.js";

const DEFAULT_ALTERNATIVES = 5;
const MOST_BITS = 14; // the height of the plot: 1 in 16,384
const PLOT_PAUSE_MS = 1000; // while words come: drawing thousands of strokes takes frames
const SVG = "http://www.w3.org/2000/svg";

export class TokenView {
  // `root` is the editor; `text()` gives the text, `labels` the controls' names; `goOn(at, text, length,
  // token)` takes another road, `score(text, logprobs)` asks the server, `select(at)` puts the caret, and
  // `reveal(at)` scrolls.
  constructor({ root, ink, area, sheet, text, labels, goOn, score, select, reveal }) {
    Object.assign(this, { root, ink, area, sheet, text, goOn, score, select, reveal });
    this.memory = new TokenMemory();
    this.isOn = false;
    this.live = null; // stretches of the request under way, by completion
    this.cells = [];
    this.colouredAt = 0; // how far the sheet was scrolled when colours were laid
    this.nodes = []; // text nodes of the ink with the place of their first character
    this.scored = null; // {text, ...measures} of the latest score
    this.bar = root.querySelector(".token-bar");
    this.canColour = "highlights" in CSS;
    this.inspector = new Inspector(this, labels);
    if (this.canColour) {
      const named = (name) => {
        const highlight = new Highlight();
        CSS.highlights.set(`gptj-${name}`, highlight);
        return highlight;
      };
      this.highlights = [1, 2, 3, 4, 5].map((level) => named(`token-${level}`));
      this.current = named("token-current");
      this.current.priority = 1;
    }
    this.bar.querySelector(".no-colours").hidden = this.canColour;
    this.listen();
  }

  toggle(on = !this.isOn) {
    this.isOn = on;
    this.bar.hidden = !on;
    this.root.classList.toggle("shows-tokens", on);
    if (!on) this.inspector.hide();
    this.paint();
    // words that came without probabilities, or before the page was loaded anew, get them now
    const model = this.ink.querySelector(".by-model");
    if (on && model?.textContent.trim() && !this.cells.some(({ logprob }) => logprob !== null)) this.askForScore();
  }

  // What a request is to ask for.
  get wantedLogprobs() {
    const written = String(state.controls.logprobs ?? "").trim();
    return written === "" ? DEFAULT_ALTERNATIVES : written;
  }

  // ---- a request's records

  begin(prompt, length) {
    this.live = [];
    this.request = { prompt, length, back: 0 };
    this.inspector.hide();
  }

  completion(index) {
    const { prompt, length, back } = this.request;
    return (this.live[index] ??= this.memory.add(new Stretch(prompt, { length, back })));
  }

  hear(record) {
    if (!this.live) return;
    switch (record.event) {
      case "started":
        this.request.back = record.healed_length ?? 0;
        break;
      case "scored":
        this.keepScore(this.request.prompt, record);
        break;
      case "text":
        if (record.text) this.completion(record.index).text += record.text;
        break;
      case "tokens":
        this.completion(record.index).add(record.tokens);
        break;
      case "finished":
        this.completion(record.index).close(record.tokens?.[0]);
        break;
    }
  }

  // The request is over; what was cut off in the middle still has its tokens.
  end() {
    for (const stretch of this.live ?? []) if (stretch && !stretch.end) stretch.close();
    this.live = null;
    this.memory.stretches = this.memory.stretches.filter((s) => s.tokens.length || s.end);
    this.paint();
  }

  // A token that was chosen by hand, with what had been known of it.
  know(prompt, text, token) {
    const stretch = this.memory.add(new Stretch(prompt));
    stretch.text = text;
    stretch.add([{ ...token, length: text.length }]);
    stretch.close();
  }

  keepScore(text, score) {
    this.memory.stretches = this.memory.stretches.filter((s) => !(s.isScore && s.text === text));
    this.memory.add(Stretch.ofScore(text, score.tokens));
    this.scored = { ...score, text };
  }

  // ---- colours

  // Show what holds in the text as it now stands. While words are added, only theirs.
  paint() {
    if (!this.isOn) {
      if (this.painted !== undefined) this.clear();
      return;
    }
    const text = this.text();
    this.readNodes();
    const live = this.live?.[0];
    if (live && this.grows === live && text.startsWith(this.painted)) {
      const until = live.prompt.length + live.text.length;
      while (this.seen < live.cells.length && live.cells[this.seen].to <= until) {
        this.cells.push(live.cells[this.seen]);
        this.seen += 1;
      }
    } else {
      this.cells = this.memory.cellsOf(text);
      this.grows = live ?? null;
      this.seen = this.cells.filter(({ stretch }) => stretch === live).length;
    }
    this.painted = text;
    this.colour();
    this.showBar();
    const shown = this.inspector.cell;
    if (shown && !this.cells.includes(shown) && this.memory.endOf(text) !== shown) this.inspector.hide();
    else this.underline(shown);
  }

  clear() {
    this.highlights?.forEach((highlight) => highlight.clear());
    this.current?.clear();
    this.cells = [];
    this.painted = undefined;
    this.grows = null;
  }

  // Only what is in view and one height of it around: with each change of the page the browser goes
  // through all ranges there are.
  colour() {
    if (!this.canColour) return;
    const { from, to } = this.nearView();
    this.highlights.forEach((highlight) => highlight.clear());
    for (let i = this.firstFrom(from); i < this.cells.length && this.cells[i].from < to; i += 1) {
      const cell = this.cells[i];
      if (cell.logprob === null) continue;
      this.highlights[levelOf(cell.logprob) - 1].add(new StaticRange(this.endsOf(cell)));
    }
    this.colouredAt = this.sheet.scrollTop;
  }

  // The characters of the text nodes that stand not farther from what is in view than its height.
  nearView() {
    const { top, bottom, height } = this.sheet.getBoundingClientRect();
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

  readNodes() {
    const walker = document.createTreeWalker(this.ink, NodeFilter.SHOW_TEXT);
    this.nodes = [];
    for (let start = 0; walker.nextNode(); start += walker.currentNode.length) {
      this.nodes.push({ node: walker.currentNode, start });
    }
  }

  // The text node and the offset in it of a character's beginning, or of a character's end.
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

  endsOf({ from, to }) {
    const [startContainer, startOffset] = this.pointOf(from, false);
    const [endContainer, endOffset] = this.pointOf(to, true);
    return { startContainer, startOffset, endContainer, endOffset };
  }

  // Where a cell stands in the window: a rectangle for each line. One without characters has none.
  rectanglesOf(cell) {
    if (!this.nodes.length || cell.to > this.painted.length) return [];
    const { startContainer, startOffset, endContainer, endOffset } = this.endsOf(
      cell.to > cell.from ? cell : { from: Math.max(0, cell.from - 1), to: cell.to },
    );
    const range = document.createRange();
    range.setStart(startContainer, startOffset);
    range.setEnd(endContainer, endOffset);
    return [...range.getClientRects()];
  }

  underline(cell) {
    this.current?.clear();
    if (cell && cell.to > cell.from && this.nodes.length) this.current?.add(new StaticRange(this.endsOf(cell)));
  }

  // ---- which token is meant

  indexAt(offset) {
    const index = this.firstFrom(offset);
    return this.cells[index]?.from <= offset ? index : -1;
  }

  // The index of the first cell that ends behind a character.
  firstFrom(offset) {
    let [low, high] = [0, this.cells.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cells[middle].to > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // The cell under a point of the window, null where there is none.
  cellUnder(x, y) {
    const offset = this.offsetUnder(x, y);
    if (offset === null) return null;
    // the place is that between two characters which is nearest
    for (const near of [offset, offset - 1]) {
      const cell = this.cells[this.indexAt(near)];
      const holds = ({ left, right, top, bottom }) => x >= left && x <= right && y >= top && y <= bottom;
      if (cell && this.rectanglesOf(cell).some(holds)) return cell;
    }
    return null;
  }

  offsetUnder(x, y) {
    const place = document.caretPositionFromPoint?.(x, y);
    if (place) return place.offsetNode === this.area ? place.offset : null;
    // a browser without it: ask for the ink below the textarea
    this.area.style.pointerEvents = "none";
    const range = document.caretRangeFromPoint?.(x, y);
    this.area.style.pointerEvents = "";
    const found = range && this.nodes.find(({ node }) => node === range.startContainer);
    return found ? found.start + range.startOffset : null;
  }

  // The one at the caret: what stands behind it, at the end of the text what stands before it.
  get cellAtCaret() {
    const at = this.area.selectionEnd;
    return this.cells[this.indexAt(at)] ?? this.endCell(at) ?? this.cells[this.indexAt(at - 1)] ?? null;
  }

  endCell(at) {
    const text = this.text();
    return at === text.length ? this.memory.endOf(text) : null;
  }

  // The next cell, or the one before, in the text's order; the end of the text is the last.
  neighbour(cell, step) {
    const end = this.memory.endOf(this.text());
    const all = end ? [...this.cells, end] : this.cells;
    return all[all.indexOf(cell) + step] ?? null;
  }

  // ---- pointer and keys

  listen() {
    const { area, inspector } = this;
    let waiting = null;
    const later = (action, ms) => {
      clearTimeout(waiting);
      waiting = setTimeout(action, ms);
    };
    area.addEventListener("pointermove", ({ pointerType, buttons, clientX, clientY }) => {
      if (!this.isOn || pointerType !== "mouse" || inspector.isPinned) return;
      if (buttons) return later(() => inspector.hide(), 0);
      later(() => {
        const cell = this.cellUnder(clientX, clientY);
        if (cell) inspector.show(cell);
        else inspector.hide();
      }, inspector.cell ? 60 : 220);
    });
    const leave = () => inspector.isPinned || later(() => inspector.hide(), 350);
    area.addEventListener("pointerleave", leave);
    inspector.box.addEventListener("pointerenter", () => clearTimeout(waiting));
    inspector.box.addEventListener("pointerleave", leave);
    area.addEventListener("click", ({ pointerType, clientX, clientY }) => {
      if (!this.isOn || pointerType !== "touch") return;
      const cell = this.cellUnder(clientX, clientY);
      if (!cell) return;
      area.blur(); // or the keyboard on the screen would cover the sheet
      inspector.show(cell, { isPinned: true });
    });
    document.addEventListener("pointerdown", ({ target }) => {
      if (!inspector.box.contains(target)) inspector.hide();
    });
    const scrolled = () => {
      if (!inspector.isPinned) inspector.hide();
      const { scrollTop, clientHeight } = this.sheet;
      if (this.isOn && Math.abs(scrollTop - this.colouredAt) > clientHeight / 2) this.colour();
    };
    this.sheet.addEventListener("scroll", scrolled, { passive: true });
    new ResizeObserver(() => this.isOn && this.colour()).observe(this.sheet);
    document.addEventListener("selectionchange", () => {
      if (this.isOn && document.activeElement === area) this.showCaret();
    });
    document.addEventListener("keydown", (event) => {
      const { code, altKey, ctrlKey, metaKey, shiftKey, key } = event;
      const withAlt = altKey && !ctrlKey && !metaKey && !shiftKey;
      if (withAlt && code === "KeyT") {
        event.preventDefault();
        this.root.querySelector('[data-action="tokens"]').click();
      } else if (withAlt && key === "ArrowDown" && this.isOn && document.activeElement === area) {
        event.preventDefault();
        const cell = this.cellAtCaret;
        if (cell) inspector.show(cell, { isPinned: true, takeFocus: true });
      } else if (key === "Escape" && inspector.cell) {
        if (inspector.isPinned) {
          event.preventDefault();
          event.stopPropagation(); // it does not also stop the model
        }
        inspector.hide({ giveFocus: true });
      } else if (document.activeElement === area && !["Alt", "Control", "Shift", "Meta"].includes(key)) {
        inspector.hide();
      }
    }, true);
    const plot = this.bar.querySelector("svg");
    plot.addEventListener("click", ({ clientX }) => {
      const { left, width } = plot.getBoundingClientRect();
      const offset = Math.round(((clientX - left) / width) * this.text().length);
      const nearest = this.cells.find(({ to }) => to > offset) ?? this.cells[this.cells.length - 1];
      if (!nearest) return;
      this.select(nearest.from);
      inspector.show(nearest, { isPinned: true });
    });
    this.bar.querySelector(".end-token").addEventListener("click", () => {
      const cell = this.memory.endOf(this.text());
      if (cell) inspector.show(cell, { isPinned: true, takeFocus: true });
    });
    this.bar.querySelector(".score-text").addEventListener("click", () => this.askForScore());
  }

  // ---- the bar

  showBar() {
    this.showCaret();
    this.showMeasures();
    const end = this.memory.endOf(this.text());
    this.bar.querySelector(".end-token").hidden = !end;
    this.plotting ??= setTimeout(() => {
      this.plotting = null;
      if (this.isOn) this.plot();
    }, this.live ? PLOT_PAUSE_MS : 0);
  }

  showCaret() {
    const line = this.bar.querySelector(".at-caret");
    const cell = this.live ? null : this.cellAtCaret;
    if (line.firstChild) line.replaceChildren(); // else the page would be laid out anew for nothing
    if (!cell) return;
    line.append("At the caret: ");
    cell.tokens.forEach((token) => line.appendChild(visible(token.text)));
    if (cell.logprob !== null) line.append(` ${percent(cell.logprob)}`);
  }

  showMeasures() {
    const { scored } = this;
    const line = this.bar.querySelector(".measures");
    const button = this.bar.querySelector(".score-text");
    const text = this.text();
    button.disabled = Boolean(this.live) || Boolean(this.asking) || !text;
    if (this.asking) return;
    if (this.refusal?.text === text) {
      line.textContent = this.refusal.message;
      return;
    }
    const measures = [];
    if (scored?.text === text) {
      measures.push(plural(scored.tokens.length, "token"));
      if (scored.perplexity !== null) measures.push(`perplexity ${scored.perplexity.toPrecision(4)}`);
      if (scored.bits_per_byte !== null) measures.push(`${scored.bits_per_byte.toFixed(3)} bits per byte`);
    }
    const said = measures.join(" · ");
    if (line.textContent !== said) line.textContent = said;
  }

  async askForScore() {
    const text = this.text();
    if (this.asking || this.live || !text) return;
    const line = this.bar.querySelector(".measures");
    const begun = Date.now();
    this.asking = setInterval(() => {
      const seconds = Math.round((Date.now() - begun) / 1000);
      line.textContent = `Reading the text…${seconds ? ` ${seconds} s` : ""}`;
    }, 500);
    this.bar.querySelector(".score-text").disabled = true;
    let answer;
    try {
      answer = await this.score(text, this.wantedLogprobs);
    } catch {
      answer = { message: "The playground does not answer. Your text is kept; try again." };
    }
    clearInterval(this.asking);
    this.asking = null;
    if (Array.isArray(answer.tokens)) this.keepScore(text, { ...answer, tokens: readTokens(answer.tokens) });
    else this.refusal = { text, message: answer.message };
    this.grows = null;
    this.paint();
  }

  // How surprised the model was along the text, in bits: a stroke a token, and their moving mean.
  plot() {
    const figure = this.bar.querySelector(".surprise");
    const cells = this.cells.filter(({ logprob }) => logprob !== null);
    figure.hidden = cells.length < 2;
    if (figure.hidden) return;
    const length = this.painted.length;
    const points = cells.map(({ from, logprob }) => [(1000 * from) / length, Math.min(MOST_BITS, -logprob / Math.LN2)]);
    const height = (bits) => (MOST_BITS - bits).toFixed(2);
    let [strokes, mean, sum] = ["", "", 0];
    const width = Math.max(4, Math.round(points.length / 60));
    points.forEach(([x, bits], i) => {
      strokes += `M${x.toFixed(1)} ${MOST_BITS}V${height(bits)}`;
      sum += bits - (points[i - width]?.[1] ?? 0);
      mean += `${i ? "L" : "M"}${x.toFixed(1)} ${height(sum / Math.min(width, i + 1))}`;
    });
    const [bars, line] = figure.querySelectorAll("path");
    bars.setAttribute("d", strokes);
    line.setAttribute("d", mean);
    const bits = points.reduce((total, [, one]) => total + one, 0) / points.length;
    const said = `${bits.toFixed(1)} bits a token`;
    figure.querySelector("figcaption").textContent = `Surprise along the text: ${said} in the mean`;
    figure.querySelector("svg").setAttribute("aria-label", `Surprise along the text, ${said} in the mean`);
  }
}
