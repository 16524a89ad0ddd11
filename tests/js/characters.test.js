import assert from "node:assert/strict";
import { test } from "node:test";
import { boundaryAfter, boundaryBefore, commonEnd, commonStart, countCharacters, head, isBoundary, shorten, tail } from "../../assets/core/characters.js";
import { fillScaffold } from "../../assets/core/scaffolds.js";
import { firstWords } from "../../assets/core/session_file.js";
import { PERSON, WrittenText, difference } from "../../assets/core/text.js";
import { BranchTree } from "../../assets/core/tree.js";
import { shorten as shortenValue } from "../../assets/components/share/describe.js";

const FAMILY = "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}";
const ALPHABET = [
  "a", "b", " ", "\n", "e\u0301", "\u00e9", "o\u0323\u0308", "\u{1f600}", "\u{1f60d}", "\u{1f44d}\u{1f3fd}", FAMILY,
  "\u{1f468}\u200d\u{1f469}", "\u{1f1e9}\u{1f1ea}", "\u{1f1eb}\u{1f1f7}", "\u6f22", "\ud55c", "\u0e01\u0e33", "\u0915\u094d\u0937",
]; // one character an entry

/** Numbers that look random and are the same in every run. */
function chance(seed) {
  let state = seed;
  return (below) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
const places = (text) => new Set([...Array.from(segmenter.segment(text), ({ index }) => index), text.length]);

/** Random texts, each with a random number source. */
function* randomTexts() {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = chance(seed);
    const text = Array.from({ length: random(40) }, () => ALPHABET[random(ALPHABET.length)]).join("");
    yield { text, random };
  }
}

test("a text is cut between characters only", () => {
  for (const { text, random } of randomTexts()) {
    const whole = places(text);
    for (let at = 0; at <= text.length; at += 1) {
      assert.equal(isBoundary(text, at), whole.has(at), JSON.stringify([text, at]));
      assert.ok(whole.has(boundaryBefore(text, at)) && boundaryBefore(text, at) <= at);
      assert.ok(whole.has(boundaryAfter(text, at)) && boundaryAfter(text, at) >= at);
    }
    const most = random(30);
    assert.ok(head(text, most).length <= Math.max(most, 0) && whole.has(head(text, most).length));
    assert.ok(tail(text, most).length <= most && whole.has(text.length - tail(text, most).length));
    assert.equal(countCharacters(text), whole.size - (text ? 1 : 0) - Number(!text));
  }
});

test("two texts are compared by whole characters", () => {
  const texts = Array.from(randomTexts(), ({ text }) => text);
  texts.slice(1).forEach((other, i) => {
    for (const [one, two] of [[texts[i], other], [texts[i] + other, texts[i]], [`x${FAMILY}${other}`, `x${FAMILY.slice(0, 5)}`]]) {
      const at = commonStart(one, two);
      assert.equal(one.slice(0, at), two.slice(0, at));
      assert.ok(places(one).has(at) && places(two).has(at));
      const length = commonEnd(one, two, Infinity);
      assert.ok(places(one).has(one.length - length) && places(two).has(two.length - length));
      const { at: from, removed, inserted } = difference(one, two, two.length);
      assert.equal(one.slice(0, from) + inserted + one.slice(from + removed.length), two);
      for (const part of [removed, inserted]) assert.doesNotMatch(part, /^(?:\p{Surrogate}|\p{M}|\u200d|\u{1f3fd})/u);
    }
  });
});

test("shortened texts end with a whole character", () => {
  for (const { text } of randomTexts()) {
    for (const short of [shorten(text, 12), shortenValue(text), firstWords(text)]) assert.doesNotThrow(() => encodeURIComponent(short));
  }
  assert.equal(firstWords(`${"x".repeat(59)}\u{1f600}y`), "x".repeat(59));
  assert.equal(countCharacters(`e\u0301${FAMILY}`), 2);
});

test("a retry between two siblings of a tree begins between characters", () => {
  const node = (id, text) => ({ id, parent: "p", at: 9, pieces: [[text, 1]], kind: "generate", run: { prompt_length: 9, controls: {} } });
  const nodes = [{ id: "p", parent: "root", at: 0, pieces: [["I love it", PERSON]], kind: "write" }, node("a", "\u{1f600} so"), node("b", "\u{1f60d} very")];
  const tree = BranchTree.fromList(nodes, "a");
  tree.commit([["I love it\u{1f60d} no", PERSON]]);
  for (const { id } of tree.toList()) assert.ok(tree.textOf(id).isWellFormed());
});

test("a file whose branch begins within a pair is read with the whole character", () => {
  const nodes = [
    { id: "p", parent: "root", at: 0, pieces: [["a\u{1f600}", PERSON]], kind: "write" },
    { id: "q", parent: "p", at: 2, pieces: [["\ude0d!", 1]], kind: "write" },
  ];
  const tree = BranchTree.fromList(nodes, "q");
  assert.equal(tree.textOf("q"), "a\u{1f60d}!");
  assert.equal(tree.node("q").at, 1);
});

test("typing and deleting count characters and not UTF-16 units", () => {
  const written = new WrittenText();
  const type = (at, text) => written.replace("type", at, 0, [[text, PERSON]], [at, at], [at, at]);
  type(0, "a");
  type(1, "\u{1f600}");
  assert.equal(written.steps.length, 1);
  written.replace("type", 1, 2, [], [3, 3], [1, 1]);
  written.replace("type", 0, 1, [], [1, 1], [0, 0]);
  assert.equal(written.steps.length, 2);
  written.undo();
  assert.equal(written.text, "a\u{1f600}");
});

test("a scaffold keeps the characters of its fields", () => {
  const scaffold = { key: "poem", fields: [{ name: "title" }, { name: "line" }], text: "{title}\n{line}", controls: { stop: [] } };
  assert.equal(fillScaffold(scaffold, { title: FAMILY, line: "e\u0301" }).text, `${FAMILY}\ne\u0301`);
});
