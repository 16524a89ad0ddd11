// Characters as people see them (grapheme clusters): where a text may be cut, compared and shortened. Positions
// and lengths are UTF-16 units, as everywhere in JavaScript. No DOM.

const LONGEST = 256; // units before a position that can belong to its character
const SIMPLE = 0x300; // below are letters, digits and signs that never join with a neighbour
const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Whether a text may be cut at a position: between two characters, or at an end. @param {string} text @param {number} at */
export function isBoundary(text, at) {
  if (at <= 0 || at >= text.length) return true;
  const isSimple = (/** @type {number} */ place) => text.charCodeAt(place) < SIMPLE && text[place] !== "\r";
  if (isSimple(at - 1) && isSimple(at)) return true;
  let from = at;
  const first = Math.max(0, at - LONGEST);
  while (from > first && !(isSimple(from - 1) && isSimple(from))) from -= 1;
  if (/[\udc00-\udfff]/.test(text[from])) from -= 1;
  const near = text.slice(from, at + LONGEST);
  return segmenter.segment(near).containing(at - from)?.index === at - from;
}

/** The last boundary that is not behind a position. @param {string} text @param {number} at */
export function boundaryBefore(text, at) {
  let place = Math.max(0, Math.min(text.length, at));
  while (!isBoundary(text, place)) place -= 1;
  return place;
}

/** The first boundary that is not before a position. @param {string} text @param {number} at */
export function boundaryAfter(text, at) {
  let place = Math.max(0, Math.min(text.length, at));
  while (!isBoundary(text, place)) place += 1;
  return place;
}

/** The beginning of a text, at most so many units. @param {string} text @param {number} most */
export const head = (text, most) => (text.length <= most ? text : text.slice(0, boundaryBefore(text, most)));

/** The end of a text, at most so many units. @param {string} text @param {number} most */
export const tail = (text, most) => (text.length <= most ? text : text.slice(boundaryAfter(text, text.length - most)));

/** The length of what two texts begin with in common, in whole characters of both. @param {string} one @param {string} other */
export function commonStart(one, other) {
  const end = Math.min(one.length, other.length);
  let at = 0;
  while (at < end && one[at] === other[at]) at += 1;
  while (!isBoundary(one, at) || !isBoundary(other, at)) at -= 1;
  return at;
}

/** The same from the ends, of at most `most` units. @param {string} one @param {string} other @param {number} most */
export function commonEnd(one, other, most) {
  const end = Math.min(one.length, other.length, most);
  let length = 0;
  while (length < end && one[one.length - 1 - length] === other[other.length - 1 - length]) length += 1;
  while (!isBoundary(one, one.length - length) || !isBoundary(other, other.length - length)) length -= 1;
  return length;
}

/** How many characters a text has. @param {string} text */
export function countCharacters(text) {
  if (/^[\0-\x7f]*$/.test(text)) return text.length;
  return Array.from(segmenter.segment(text)).length;
}

/** A text, shortened if it is too long. @param {string} text @param {number} most units, the ellipsis included */
export const shorten = (text, most) => (text.length > most ? `${head(text, most - 1)}…` : text);
