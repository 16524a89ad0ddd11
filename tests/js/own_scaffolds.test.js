// A visitor's own scaffolds: their placeholders, how they are filled, and what is read from storage.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LONGEST_TEXT, MOST_SCAFFOLDS, deleteScaffold, fillOwn, loadScaffolds, placeholdersOf, readScaffolds, saveScaffold } from "../../assets/core/own_scaffolds.js";

test("placeholders are names between braces, each once", () => {
  assert.deepEqual(placeholdersOf("{hero} met {the old king} and {hero}; {} {1 + 1}% {\n} { x } {{a}"), ["hero", "the old king", "a"]);
  assert.deepEqual(placeholdersOf("if (x) { return {}; }"), []);
  assert.deepEqual(placeholdersOf("{البطل} و{ñandú}"), ["البطل", "ñandú"]);
});

test("values replace their placeholders and are not expanded again", () => {
  const filled = fillOwn("{a} and {b} and {c}", { a: " {b} ", b: "two\r\nlines" });
  assert.equal(filled, "{b} and two\nlines and {c}");
  assert.equal(fillOwn("{constructor} {__proto__x}", {}), "{constructor} {__proto__x}");
  assert.equal(fillOwn("{a}", { a: "$& $1" }), "$& $1");
});

test("invalid scaffolds are left out", () => {
  const sound = { name: "n", text: "t {x}" };
  const kept = { version: 1, scaffolds: [sound, null, 3, { name: "", text: "" }, { name: "x".repeat(61), text: "" }, { name: "n" }] };
  assert.deepEqual(readScaffolds(kept), [sound]);
  for (const wrong of [null, [], { version: 2, scaffolds: [sound] }, { version: 1, scaffolds: {} }]) assert.deepEqual(readScaffolds(wrong), []);
});

test("a text that is too long and one scaffold too many are refused, and nothing is lost", () => {
  const store = new Map();
  globalThis.localStorage = { getItem: (key) => store.get(key) ?? null, setItem: (key, value) => store.set(key, value) };
  try {
    saveScaffold("n0", "x".repeat(LONGEST_TEXT));
    assert.throws(() => saveScaffold("n0", "x".repeat(LONGEST_TEXT + 1)), { message: /has 20,001 characters; a scaffold has at most 20,000\. Shorten/ });
    assert.equal(loadScaffolds()[0].text.length, LONGEST_TEXT);
    for (let i = 1; i < MOST_SCAFFOLDS; i++) saveScaffold(`n${i}`, "t");
    assert.throws(() => saveScaffold("more", "t"), { message: /at most 50 scaffolds.*Delete one/ });
    saveScaffold("n1", "replaced");
    assert.equal(loadScaffolds().length, MOST_SCAFFOLDS);
    assert.deepEqual(loadScaffolds().at(-1), { name: "n1", text: "replaced" });
    deleteScaffold("n1");
    assert.equal(loadScaffolds().length, MOST_SCAFFOLDS - 1);
    globalThis.localStorage.setItem = () => { throw new Error("full"); };
    assert.throws(() => saveScaffold("more", "t"), { message: /storage is full or blocked/ });
  } finally {
    delete globalThis.localStorage;
  }
});
