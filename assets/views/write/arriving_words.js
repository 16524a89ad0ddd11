// The model's words in the text while they arrive: one step that grows, before the text that follows them.

import { endOfStep, pieces } from "../../core/text.js";

export class ArrivingWords {
  /**
   * Replace `length` characters at `start` by the words so far: `given` ones, and `shown` ones, which were on the page
   * before and which the log repeats. `rest` follows them.
   * @param {import("./writing.js").Writing} writing
   * @param {{start: number, length: number, given: string, shown: string, rest: string}} options
   */
  constructor({ written, sheet }, { start, length, given, shown, rest }) {
    this.written = written;
    this.sheet = sheet;
    this.rest = rest;
    this.shown = shown;
    this.step = written.beginRun(start, length, sheet.selection, given, shown);
    sheet.replace(start, length, given + shown);
  }

  get end() {
    return endOfStep(this.step);
  }

  /** The pieces of the text before the words that the log brings, and behind the words. */
  get around() {
    const { written, end, shown } = this;
    return { prompt: pieces.slice(written.pieces, 0, end - shown.length), rest: pieces.slice(written.pieces, end, Infinity) };
  }

  get isInView() {
    return this.rest ? this.sheet.shows(this.end) : this.sheet.isAtEnd;
  }

  /** Scroll to the end of the words. */
  reveal() {
    if (this.rest) this.sheet.reveal(this.end);
    else this.sheet.toEnd();
  }

  /** Add words of the log. Returns whether the text has changed. @param {string} text */
  add(text) {
    const added = this.unshown(text);
    if (!added) return false;
    const { end } = this;
    this.written.extendRun(this.step, added);
    this.sheet.replace(end, 0, added);
    return true;
  }

  /** The part of the log's next words that is not shown yet. If the shown words differ, they are removed. @param {string} text */
  unshown(text) {
    const { shown } = this;
    if (shown.startsWith(text)) {
      this.shown = shown.slice(text.length);
      return "";
    }
    this.shown = "";
    if (text.startsWith(shown)) return text.slice(shown.length);
    this.shorten(shown.length);
    return text;
  }

  /** Remove the last characters of the words; the text before the words stays. @param {number} length */
  shorten(length) {
    const own = Math.min(length, this.end - this.step.at);
    this.written.shortenRun(this.step, own);
    this.sheet.replace(this.end, own, "");
  }

  /** End the words; if none came, restore the text. Returns whether it was restored. @param {boolean} failed */
  close(failed) {
    const { written, sheet, step } = this;
    this.shown = "";
    const isRestored = written.endRun(step, failed);
    if (isRestored) {
      const { text } = written;
      const { length } = sheet.area.value;
      if (sheet.area.value !== text) sheet.replace(step.at, length - step.at, text.slice(step.at));
    } else if (this.rest) sheet.area.setSelectionRange(this.end, this.end);
    return isRestored;
  }
}
