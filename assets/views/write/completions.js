// The completions of a request as their words arrive: their texts with the line ends of the textarea, their ends, and
// where they are cut so that they end with a whole sentence.

import { lastSentenceEnd, sentenceEndFrom } from "../../core/sentences.js";

const SPARE_TOKENS = 64; // by which a sentence may exceed the length

/** @typedef {{text: string, end: any, isHalf: boolean, reached: number | null}} Completion `isHalf`: the text so far ends in a \r; `reached`: the text's length when it had as many tokens as were asked for */

export class Completions {
  /**
   * `isRest`: whether it writes only the rest of the length of an earlier request; `ending`: "" to end at the length,
   * "within" to end with the last whole sentence within it, "beyond" to end with the first one that ends after it.
   * `rest` follows each of them.
   * @param {{prompt?: string, rest?: string, isRest?: boolean, ending?: string, length?: number | null}} [request]
   */
  constructor({ prompt = "", rest = "", isRest = false, ending = "", length = null } = {}) {
    this.prompt = prompt;
    this.rest = rest;
    this.isRest = isRest;
    this.ending = ending;
    this.length = length ?? Infinity;
    /** @type {Completion[]} */
    this.all = [];
  }

  /** How many tokens to ask for. @param {number} most */
  wanted(most) {
    return this.ending === "beyond" ? Math.min(most, this.length + SPARE_TOKENS) : this.length;
  }

  /** @param {number} index */
  at(index) {
    return (this.all[index] ??= { text: "", end: null, isHalf: false, reached: null });
  }

  /** Add a record's words; returns them with \n as line end, also where one is cut by the end of a record. @param {{index: number, text: string, tokens: number}} record */
  add({ index, text, tokens }) {
    const completion = this.at(index);
    const rest = completion.isHalf && text[0] === "\n" ? text.slice(1) : text;
    if (text) completion.isHalf = text.endsWith("\r");
    const added = rest.replace(/\r\n?/g, "\n");
    completion.text += added;
    if (tokens >= this.length) completion.reached ??= completion.text.length;
    return added;
  }

  /** The end of the sentence with which a completion can end, 0 where there is none yet. @param {Completion} completion */
  static endBeyond = ({ text, reached }) => (reached === null ? 0 : sentenceEndFrom(text, reached - 1));

  /** Whether all completions have their last sentence, and text after it. */
  get isEnough() {
    const isThere = (/** @type {Completion} */ one) => one.end || (Completions.endBeyond(one) || Infinity) < one.text.length;
    return this.ending === "beyond" && this.all.length > 0 && this.all.every(isThere);
  }

  /** How many characters of an ended completion follow its last sentence. @param {number} index @param {boolean} isEnough whether it was stopped for that */
  surplus(index, isEnough) {
    const completion = this.at(index);
    const { text, end } = completion;
    if (!this.ending || !(end?.reason === "length" || isEnough)) return 0;
    const place = (this.ending === "beyond" && Completions.endBeyond(completion)) || lastSentenceEnd(text);
    return place ? text.length - place : 0;
  }

  /** @param {number} index @param {number} length to cut from its end */
  cut(index, length) {
    const completion = this.at(index);
    completion.text = completion.text.slice(0, completion.text.length - length);
    completion.end.isCut = true;
  }

  /** The end of each completion, with the whole text that it makes. @param {{total: number, rate?: number, completions?: number}} shared */
  endings({ total, rate, completions }) {
    const { prompt, rest, isRest } = this;
    const ended = this.all.filter((one) => one?.end);
    return ended.map(({ text, end }) => ({ text: prompt + text + rest, end: { ...end, total, rate, completions, isRest, isEmpty: !text } }));
  }
}
