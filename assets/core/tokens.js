// The tokens of a text with their probabilities: reads the server's records and maps tokens to characters of
// the text, while that is unchanged.

const LEVELS = [0.5, 0.2, 0.05, 0.01]; // least probabilities of levels 1 to 4; below is level 5
const KEPT_TOKENS = 60_000;

export const TEXT_TOKEN = 0;
export const PART_OF_CHARACTER = 1;
export const END_OF_TEXT = 2;

// The tokens of a record with their fields named; gptj_demo/ui/tokens.py packs them.
/** @param {any[][]} packed @returns {Token[]} */
export const readTokens = (packed) =>
  packed.map(([token_id, text, kind, length, logprob, sampled_logprob, rank, filtered_away, others]) => ({
    token_id,
    text,
    kind,
    length,
    logprob,
    sampled_logprob,
    rank,
    filtered_away,
    alternatives: others.map((/** @type {any[]} */ [token_id, text, kind, logprob, sampled_logprob, removed_by]) => ({
      token_id,
      text,
      kind,
      logprob,
      sampled_logprob,
      removed_by,
    })),
  }));

/** The level of a token's probability, from 1 (likely) to 5. @param {number} logprob */
export function levelOf(logprob) {
  const level = LEVELS.findIndex((least) => Math.exp(logprob) >= least);
  return 1 + (level < 0 ? LEVELS.length : level);
}

// A stretch of text with known tokens: the model's words after a prompt or, with an empty prompt, a scored
// text. It is valid while all text before it is unchanged. A cell is the smallest run of whole characters
// and whole tokens: a character may consist of several tokens, and a token of several characters.
export class Stretch {
  /** @param {string} prompt @param {{isScore?: boolean, length?: number | null, back?: number}} [options] */
  constructor(prompt, { isScore = false, length = null, back = 0 } = {}) {
    this.prompt = prompt;
    this.isScore = isScore;
    this.length = length; // the requested number of tokens
    this.text = "";
    this.tokens = /** @type {Token[]} */ ([]);
    this.cells = /** @type {Cell[]} */ ([]);
    this.end = /** @type {Cell | null} */ (null); // the token that ended the text
    this.from = prompt.length - back; // where the next token begins
    this.to = prompt.length; // the end of the completed characters
    this.open = /** @type {Cell | null} */ (null); // an incomplete cell
  }

  /** @param {string} text @param {Token[]} tokens @param {number} [after] characters after the last token */
  static ofScore(text, tokens, after = 0) {
    const stretch = new Stretch("", { isScore: true });
    stretch.text = text;
    // counted from the end, as the first tokens may be missing
    stretch.from = stretch.to = text.length - after - tokens.reduce((sum, token) => sum + token.length, 0);
    stretch.add(tokens);
    stretch.close();
    return stretch;
  }

  /** @param {Token[]} tokens */
  add(tokens) {
    for (const token of tokens) {
      this.open ??= { from: this.from, to: this.from, tokens: [], first: this.tokens.length, logprob: null, stretch: this };
      this.open.tokens.push(token);
      this.tokens.push(token);
      this.to += token.length;
      if (this.to > this.from) this.complete(this.to);
    }
  }

  /** Skip characters without tokens, because a filter left the tokens out. @param {number} length */
  skip(length) {
    if (this.to > this.from) this.complete(this.to);
    this.open = null;
    this.from += length;
    this.to = this.from;
  }

  /** @param {number} to */
  complete(to) {
    const { open } = this;
    if (!open) return;
    open.to = to;
    open.logprob = open.tokens.reduce(
      (/** @type {number | null} */ sum, { logprob }) => (sum === null || logprob === null ? null : sum + logprob), 0,
    );
    this.cells.push(open);
    this.from = to;
    this.open = null;
  }

  /** No token will follow: the text may have been cut at a stop string, or may end within a character. @param {Token | null} [end] */
  close(end = null) {
    const length = this.prompt.length + this.text.length;
    if (this.open && length > this.from) this.complete(length);
    while (this.cells.length && this.cells[this.cells.length - 1].from >= length) this.cells.pop();
    const last = this.cells[this.cells.length - 1];
    if (last) last.to = Math.min(last.to, length);
    if (end) this.end = { from: length, to: length, tokens: [end], first: this.tokens.length, logprob: end.logprob, stretch: this };
  }

  /** The position in a text up to which the stretch is valid. @param {string} text */
  holdsUntil(text) {
    if (!text.startsWith(this.prompt)) return 0;
    const start = this.prompt.length;
    if (text.startsWith(this.text, start)) return start + this.text.length;
    let same = 0;
    while (this.text[same] === text[start + same]) same += 1;
    return start + same;
  }
}

// All stretches, newest last. Generated ones are preferred, as they have more data than scored ones.
export class TokenMemory {
  constructor() {
    this.stretches = /** @type {Stretch[]} */ ([]);
  }

  /** @param {Stretch} stretch */
  add(stretch) {
    this.stretches.push(stretch);
    let count = this.stretches.reduce((sum, { tokens }) => sum + tokens.length, 0);
    while (count > KEPT_TOKENS && this.stretches.length > 1) count -= this.stretches.shift()?.tokens.length ?? 0;
    return stretch;
  }

  /** The cells that are valid in a text, in its order and without overlaps. @param {string} text */
  cellsOf(text) {
    const found = /** @type {Cell[]} */ ([]);
    const owner = new Int32Array(text.length).fill(-1);
    const inOrder = [...this.stretches.filter((s) => s.isScore), ...this.stretches.filter((s) => !s.isScore)];
    for (const stretch of inOrder) {
      const end = stretch.holdsUntil(text);
      if (end <= stretch.prompt.length) continue;
      for (const cell of stretch.cells) {
        if (cell.to > end) break;
        owner.fill(found.length, Math.max(0, cell.from), cell.to);
        found.push(cell);
      }
    }
    return found
      .filter((cell, i) => cell.from >= 0 && owner.subarray(cell.from, cell.to).every((one) => one === i))
      .sort((a, b) => a.from - b.from);
  }

  /** The token that ended the model's text, where the text still ends there. @param {string} text */
  endOf(text) {
    const stretch = this.stretches.findLast((s) => s.end && s.end.from === text.length && s.holdsUntil(text) === text.length);
    return stretch?.end ?? null;
  }
}
