import assert from "node:assert/strict";
import { test } from "node:test";
import { PERSON, WrittenText, difference, pieces } from "../../assets/core/text.js";

/** Numbers that look random and are the same in every run. */
function chance(seed) {
  let state = seed;
  return (below) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

test("pieces are cut and joined by characters", () => {
  const list = [["Once ", PERSON], ["upon", 1], [" a time", PERSON]];
  assert.equal(pieces.text(list), "Once upon a time");
  assert.equal(pieces.length(list), 16);
  assert.deepEqual(pieces.slice(list, 3, 11), [["e ", PERSON], ["upon", 1], [" a", PERSON]]);
  assert.deepEqual(pieces.slice(list, 5, 5), []);
  assert.deepEqual(pieces.splice(list, 5, 4, [["on", PERSON]]), [["Once on a time", PERSON]]);
});

test("the difference of two texts is one replacement that ends at the caret", () => {
  assert.deepEqual(difference("aa", "aaa", 1), { at: 0, removed: "", inserted: "a" });
  assert.deepEqual(difference("aa", "aaa", 3), { at: 2, removed: "", inserted: "a" });
  assert.deepEqual(difference("a cat", "a dog", 5), { at: 2, removed: "cat", inserted: "dog" });
  assert.deepEqual(difference("same", "same", 4), { at: 4, removed: "", inserted: "" });
});

test("typing within one word is one step", () => {
  const written = new WrittenText();
  [..."to be"].forEach((letter, at) => written.replace("type", at, 0, [[letter, PERSON]], [at, at], [at + 1, at + 1]));
  assert.equal(written.text, "to be");
  written.undo();
  assert.equal(written.text, "to ");
  written.undo();
  assert.equal(written.text, "");
  written.redo();
  written.redo();
  assert.equal(written.text, "to be");
  assert.equal(written.canRedo, false);
});

test("undo and redo restore the same texts after random edits", () => {
  for (let seed = 1; seed <= 50; seed += 1) {
    const random = chance(seed);
    const written = new WrittenText();
    const texts = [""];
    for (let i = 0; i < 20; i += 1) {
      const at = random(written.text.length + 1);
      const removed = random(written.text.length - at + 1);
      written.replace("edit", at, removed, [["abc".slice(random(3)), random(3)]], [at, at], [at, at]);
      texts.push(written.text);
    }
    for (const text of texts.slice(0, -1).reverse()) {
      written.undo();
      assert.equal(written.text, text);
    }
    for (const text of texts.slice(1)) {
      written.redo();
      assert.equal(written.text, text);
    }
  }
});

test("undo also restores steps that were undone and overwritten", () => {
  const written = new WrittenText();
  written.replace("edit", 0, 0, [["one", PERSON]], [0, 0], [3, 3]);
  written.undo();
  written.replace("edit", 0, 0, [["two", PERSON]], [0, 0], [3, 3]);
  const seen = [];
  while (written.undo()) seen.push(written.text);
  assert.deepEqual(seen, ["", "one", ""]);
});

test("a run is one step, and an empty run restores the replaced text", () => {
  const written = new WrittenText();
  written.replace("edit", 0, 0, [["Once", PERSON]], [0, 0], [4, 4]);
  const step = written.beginRun(4, 0, [4, 4]);
  written.extendRun(step, " upon");
  written.extendRun(step, " a time");
  assert.equal(written.endRun(step), false);
  assert.deepEqual(written.pieces, [["Once", PERSON], [" upon a time", 1]]);
  assert.equal(written.endsWithModel, true);
  assert.deepEqual(written.latestPlace, { from: 4, to: 16 });
  const retry = written.beginRun(4, 12, [16, 16]);
  assert.equal(written.text, "Once");
  assert.equal(written.endRun(retry, true), true);
  assert.equal(written.text, "Once upon a time");
  written.undo();
  assert.equal(written.text, "Once");
  assert.equal(written.endsWithModel, false);
  assert.equal(written.latestPlace, null);
});

test("a run within a text is inserted before the rest and undone as one step", () => {
  const written = new WrittenText();
  written.replace("type", 0, 0, [["The king went.", PERSON]], [0, 0], [14, 14]);
  const step = written.beginRun(8, 0, [8, 8]);
  written.extendRun(step, " of");
  written.extendRun(step, " Spain,");
  assert.equal(written.text, "The king of Spain, went.");
  assert.deepEqual(written.pieces, [["The king", PERSON], [" of Spain,", 1], [" went.", PERSON]]);
  written.shortenRun(step, 1);
  assert.deepEqual(step.after, [17, 17]);
  assert.equal(written.endRun(step), false);
  written.undo();
  assert.equal(written.text, "The king went.");
  written.redo();
  assert.equal(written.text, "The king of Spain went.");
});

test("the latest run is the one that was written last, also within another run and before a person's text", () => {
  const written = new WrittenText();
  written.extendRun(written.beginRun(0, 0, [0, 0]), "one three");
  written.extendRun(written.beginRun(3, 0, [3, 3]), " two");
  written.replace("edit", 13, 0, [[" four", PERSON]], [13, 13], [18, 18]);
  assert.equal(written.text, "one two three four");
  assert.deepEqual(written.latestPlace, { from: 3, to: 7 });
  assert.equal(written.endsWithModel, false);
  written.replace("edit", 3, 4, [], [3, 3], [3, 3]);
  assert.deepEqual(written.latestPlace, { from: 0, to: 9 });
});

test("words that were shown before belong to the run that repeats them, and given words do not", () => {
  const written = new WrittenText();
  written.extendRun(written.beginRun(0, 0, [0, 0]), "one");
  written.extendRun(written.beginRun(0, 3, [3, 3], "", "one"), " two");
  assert.deepEqual(written.pieces, [["one two", 2]]);
  const again = written.beginRun(0, 7, [7, 7], "", "one two");
  assert.equal(written.endRun(again, true), true); // it wrote nothing new
  assert.deepEqual(written.pieces, [["one two", 2]]);
  written.extendRun(written.beginRun(0, 7, [7, 7], "a", ""), " b");
  assert.deepEqual(written.pieces, [["a", 4], [" b", 5]]);
});
