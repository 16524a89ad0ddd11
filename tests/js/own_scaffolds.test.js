// A visitor's own scaffolds: their placeholders, how they are filled, and what is read from storage.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fillOwn, placeholdersOf, readScaffolds } from "../../assets/core/own_scaffolds.js";

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
