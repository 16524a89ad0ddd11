// Finds out whether a text ends in the same words over and over. Pure: touches neither page nor network.

export const LOOP_TAIL = 6000; // characters at the end that are looked at
const LOOP_TIMES = 3; // how often the same must stand there
const LOOP_LENGTH = 120; // characters of it in all: a refrain and "no, no, no" are shorter
const LOOP_LENGTH_OF_SIGNS = 400; // where there is no letter in it: rules, rows of zeros

/**
 * `text` ends in the same `period` characters, again and again, from `start` on; `cut` is the place behind
 * the first of them at which the text is best cut. Null where it does not, or not enough to be called a
 * loop. Takes time in proportion to LOOP_TAIL at most.
 * @param {string} text
 */
export function findLoop(text) {
  const tail = text.slice(-LOOP_TAIL);
  const backwards = tail.split("").reverse();
  const same = matchesWithBeginning(backwards);
  for (let period = 1; period * LOOP_TIMES <= tail.length; period += 1) {
    const length = period + same[period];
    if (length < period * LOOP_TIMES || length < LOOP_LENGTH) continue;
    const start = text.length - length;
    const unit = text.slice(start, start + period);
    if (!/\S/.test(unit) || (!/\p{L}/u.test(unit) && length < LOOP_LENGTH_OF_SIGNS)) return null;
    return { period, start, times: Math.floor(length / period), cut: findCut(text, start + period, period) };
  }
  return null;
}

/** For each place how many items from there on are those of the beginning (the Z function). @param {string[]} items */
function matchesWithBeginning(items) {
  const same = new Array(items.length).fill(0);
  let [from, to] = [0, 0]; // the match that reaches farthest
  for (let i = 1; i < items.length; i += 1) {
    if (i < to) same[i] = Math.min(to - i, same[i - from]);
    while (i + same[i] < items.length && items[same[i]] === items[i + same[i]]) same[i] += 1;
    if (i + same[i] > to) [from, to] = [i, i + same[i]];
  }
  return same;
}

/**
 * A loop is seldom found from the beginning of a sentence on: look one period ahead for an end of a line or
 * of a sentence, else of a word. The text then ends without a space, as the model likes it.
 * @param {string} text @param {number} at @param {number} period
 */
function findCut(text, at, period) {
  const ahead = text.slice(at - 1, at + period);
  const ends = [/(?<=\S)\n|(?<=[.!?…]["'”’)]*)\s/, /(?<=\S)\s/];
  for (const end of ends) {
    const found = ahead.search(end);
    if (found >= 1) return at - 1 + found;
  }
  return /[\uDC00-\uDFFF]/.test(text.charAt(at)) ? at + 1 : at; // not through a character
}
