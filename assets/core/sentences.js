// Where sentences end. Pure: no DOM.

import { boundaryBefore } from "./characters.js";

// A sign is tried only where its row of signs begins, so that the search of a long row stays linear.
const END = /(?<![.!?…。！？])[.!?…。！？]+["'”’»)\]]*(?=\s|$)|(?<=\S)(?=\n\s*\n)/gu;
const ABBREVIATION = /(?:^|[\s("“'‘])(?:\p{L}|Mr|Mrs|Ms|Dr|St|Prof|Sr|Jr|vs|etc|e\.g|i\.e)\.$/u;

/** The positions after whole sentences, in their order. @param {string} text */
export function sentenceEnds(text) {
  const ends = [];
  for (const { index, 0: sign } of text.matchAll(END)) {
    const end = index + sign.length;
    if (end > 0 && !(sign === "." && ABBREVIATION.test(text.slice(Math.max(0, end - 8), end)))) ends.push(end);
  }
  return ends;
}

/** The end of the last whole sentence, 0 where there is none. @param {string} text */
export const lastSentenceEnd = (text) => sentenceEnds(text).at(-1) ?? 0;

/** The end of the first sentence that ends at or after a position, 0 where there is none. @param {string} text @param {number} at */
export const sentenceEndFrom = (text, at) => sentenceEnds(text).find((end) => end >= at) ?? 0;

const LONGEST_SPOKEN = 300; // characters; browsers break off long utterances

/**
 * The next part of a text to read aloud, from position `from` on: a sentence without the white space around it, or
 * the first 300 characters of a longer one. Null at the end of the text. While the text is `growing`, an unfinished
 * last sentence is not returned.
 * @param {string} text @param {number} from @param {boolean} [growing] @returns {[number, number] | null}
 */
export function spokenPart(text, from, growing = false) {
  const start = from + text.slice(from).search(/\S|$/);
  if (start >= text.length) return null;
  const line = text.indexOf("\n", start);
  const ends = [sentenceEndFrom(text, start + 1), line].filter((end) => end > start);
  let end = ends.length ? Math.min(...ends) : text.length;
  if (end - start > LONGEST_SPOKEN) {
    const space = text.lastIndexOf(" ", start + LONGEST_SPOKEN);
    end = space > start ? space : boundaryBefore(text, start + LONGEST_SPOKEN);
  } else if (growing && end === text.length) return null;
  return [start, start + text.slice(start, end).trimEnd().length];
}
