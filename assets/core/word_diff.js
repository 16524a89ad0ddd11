// The word-by-word difference of two texts.

/** @typedef {["same" | "del" | "ins", string[]]} WordRun */

/**
 * Two texts as runs of equal, deleted and inserted words; null if they have little in common or are too long
 * to compare.
 * @param {string} before @param {string} after @returns {WordRun[] | null}
 */
export function wordChanges(before, after) {
  const [a, b] = [before, after].map((text) => text.match(/\S+\s*|\s+/g) ?? []);
  let [start, end] = [0, 0];
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  if (x.length * y.length > 90_000) return null;
  // longest common subsequence
  const longest = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
  for (let i = x.length - 1; i >= 0; i -= 1) {
    for (let j = y.length - 1; j >= 0; j -= 1) {
      longest[i][j] = x[i] === y[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  if (start + end + longest[0][0] < 0.3 * b.length) return null;
  const runs = /** @type {WordRun[]} */ ([]);
  const add = (/** @type {WordRun[0]} */ kind, /** @type {string[]} */ words) => {
    const last = runs[runs.length - 1];
    if (last?.[0] === kind) last[1].push(...words);
    else if (words.length) runs.push([kind, [...words]]);
  };
  add("same", a.slice(0, start));
  let [i, j] = [0, 0];
  while (i < x.length || j < y.length) {
    if (i < x.length && j < y.length && x[i] === y[j]) {
      add("same", [x[i]]);
      i += 1;
      j += 1;
    } else if (i < x.length && (j === y.length || longest[i + 1][j] >= longest[i][j + 1])) {
      add("del", [x[i]]);
      i += 1;
    } else {
      add("ins", [y[j]]);
      j += 1;
    }
  }
  add("same", a.slice(a.length - end));
  return runs;
}
