import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { MOST_SENT, sentOf, withoutDropped } from "../../assets/core/long_text.js";
import { MOST_NOTE } from "../../assets/core/memory.js";

const python = readFileSync(new URL("../../gptj_demo/client/prompt.py", import.meta.url), "utf8");
const MOST = Number(python.match(/^MAX_PROMPT_CHARACTERS = ([\d_]+)$/m)[1].replaceAll("_", ""));

test("a text that the server takes is sent whole", () => {
  const longest = "a".repeat(MOST);
  assert.equal(sentOf(longest, "left"), longest);
  assert.equal(sentOf("", "left"), "");
});

test("of a longer text the end is sent, in whole characters, if its beginning may be left out", () => {
  const long = `${"a".repeat(MOST - MOST_SENT)}🦊${"b".repeat(MOST_SENT - 1)}`;
  assert.equal(long.length, MOST + 1);
  assert.equal(sentOf(long, "left"), "b".repeat(MOST_SENT - 1));
  assert.equal(sentOf(long, "error"), long);
  assert.equal(sentOf(long, undefined), long);
});

test("the server takes what is sent, with the longest note", () => {
  assert.ok(MOST_SENT + MOST_NOTE + 1 <= MOST);
});

test("a message loses the number of tokens that were left out, and nothing else", () => {
  const plain = (code) => ({ code, values: {} });
  const joined = (first, second) => ({ code: "text.joined", values: { first, second } });
  const length = plain("end.length");
  assert.deepEqual(withoutDropped(length), length);
  assert.deepEqual(withoutDropped(joined(length, plain("end.dropped"))), length);
  const marked = plain("end.marked");
  assert.deepEqual(withoutDropped(joined(length, marked)), joined(length, marked));
  assert.deepEqual(withoutDropped(joined(joined(length, plain("end.dropped")), marked)), joined(length, marked));
});
