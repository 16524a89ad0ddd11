// Where sentences end. Pure: no DOM.

const END = /[.!?…。！？]+["'”’»)\]]*(?=\s|$)|(?<=\S)(?=\n\s*\n)/gu;
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
