// Detects a text that ends in a loop. Pure: no DOM, no network.

import { boundaryAfter } from "./characters.js";

export const LOOP_TAIL = 6000; // characters at the end that are examined
const LOOP_TIMES = 3; // least number of repetitions
const LOOP_LENGTH = 120; // least characters in total; a refrain or "no, no, no" is shorter
const LOOP_LENGTH_OF_SIGNS = 400; // without any letter: rules, rows of zeros

/**
 * The loop at the end of `text`, or null: it repeats `period` characters from `start` on, and `cut` is the
 * best position after the first repetition to cut the text. Linear in LOOP_TAIL.
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

/** The Z function: for each position, how many items from there on equal those at the beginning. @param {string[]} items */
function matchesWithBeginning(items) {
  const same = new Array(items.length).fill(0);
  let [from, to] = [0, 0]; // the match that ends last
  for (let i = 1; i < items.length; i += 1) {
    if (i < to) same[i] = Math.min(to - i, same[i - from]);
    while (i + same[i] < items.length && items[same[i]] === items[i + same[i]]) same[i] += 1;
    if (i + same[i] > to) [from, to] = [i, i + same[i]];
  }
  return same;
}

/**
 * A loop rarely starts at a sentence: look one period ahead for the end of a line or a sentence, else of a
 * word. The text then ends without a space, which suits the model's tokens.
 * @param {string} text @param {number} at @param {number} period
 */
function findCut(text, at, period) {
  const ahead = text.slice(at - 1, at + period);
  const ends = [/(?<=\S)\n|(?<=[.!?…]["'”’)]*)\s/, /(?<=\S)\s/];
  for (const end of ends) {
    const found = ahead.search(end);
    if (found >= 1) return at - 1 + found;
  }
  return boundaryAfter(text, at);
}
