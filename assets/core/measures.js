// How likely a model found a text, and how varied its words are: one definition of each measure. Pure: no DOM.

/**
 * The measures of tokens by their log-probabilities (natural; unknown ones are left out), null where none is
 * known. `bytes` is the length of the tokens' text in UTF-8. Perplexity is 2 to the power of the bits a token.
 * @param {(number | null)[]} logprobs @param {number | null} [bytes]
 */
export function measuresOf(logprobs, bytes = null) {
  const known = logprobs.filter((one) => one !== null);
  if (!known.length) return null;
  const sum = known.reduce((all, one) => all + one, 0);
  const bits = -sum / Math.LN2;
  const bitsPerToken = bits / known.length;
  return { sum, tokens: known.length, bitsPerToken, perplexity: 2 ** bitsPerToken, bitsPerByte: bytes ? bits / bytes : null };
}

/** Rounded so that it agrees with 2 to the power of the bits, as `bitsText` shows them. @param {number} perplexity */
export const perplexityText = (perplexity) => Number(perplexity.toPrecision(3)).toLocaleString("en");

/** @param {number} bits */
export const bitsText = (bits) => bits.toFixed(3);

const WORD = /[\p{L}\p{N}_]+(?:['\u2019][\p{L}\p{N}_]+)*/gu;

/**
 * Distinct words per word, ignoring case: 1 if no word repeats, null if there are none. Defined as `distinct_words` of
 * gptj_demo/ui/comparison.py, so cards and cells agree.
 * @param {string} text
 */
export function distinctWords(text) {
  const words = text.toLowerCase().match(WORD);
  return words && new Set(words).size / words.length;
}
