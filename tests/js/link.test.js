import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_LINK, UnreadableLink, fingerprint, makeLink, readLink } from "../../assets/core/link.js";

const PAGE = "https://gptj.example/playground/";
const fragmentOf = (address) => address.slice(address.indexOf("#"));
const noise = (length, seed = 1) => {
  let state = seed;
  return Array.from({ length }, () => String.fromCharCode(33 + ((state = (state * 1103515245 + 12345) % 2 ** 31) % 94))).join("");
};

const CONTENT = {
  text: "Once upon a time “🦊”\n",
  words: " there was a fox.",
  controls: { temperature: 0.7, stop: "\\n", seed: "12", n: 1, token_healing: true },
  of: [2, 3],
  ended: "cancelled",
  model: { name: "GPT-J", revision: null, precision: "int8", device: "cpu", software: "1.0" },
};

test("a link contains its text, completion, settings and model", async () => {
  const { address, left } = await makeLink(CONTENT, PAGE);
  assert.ok(address.startsWith(`${PAGE}#share=2.`));
  assert.match(address.slice(PAGE.length), /^#share=2\.[\w-]+$/);
  assert.deepEqual(left, { words: false, settings: [], characters: 0 });
  const read = await readLink(fragmentOf(address));
  assert.deepEqual({ ...read, hash: undefined, length: undefined }, { ...CONTENT, hash: undefined, length: undefined });
});

test("a link of an earlier version is read and keeps its version", async () => {
  const { address } = await makeLink(CONTENT, PAGE);
  const fragment = fragmentOf(address);
  assert.equal((await readLink(fragment)).isEarlier, undefined);
  const read = await readLink(fragment.replace("=2.", "=1."));
  assert.equal(read.isEarlier, true);
  assert.deepEqual([read.text, read.words, read.controls], [CONTENT.text, CONTENT.words, CONTENT.controls]);
  const again = fragmentOf((await makeLink(read, PAGE)).address);
  assert.match(again, /^#share=1\./, "its words are still those of that version");
  assert.deepEqual(await readLink(again), read);
  const claims = await makeLink({ ...CONTENT, words: noise(9000), isEarlier: true }, PAGE);
  assert.equal((await readLink(fragmentOf(claims.address))).isEarlier, true);
});

test("a completion that is too long is replaced by its fingerprint", async () => {
  const words = noise(9000);
  const { address, left } = await makeLink({ ...CONTENT, words }, PAGE);
  assert.ok(address.length <= MAX_LINK);
  assert.equal(left.words, true);
  const read = await readLink(fragmentOf(address));
  assert.deepEqual([read.text, read.words, read.hash, read.length], [CONTENT.text, undefined, fingerprint(words), 9000]);
});

test("a text that is too long is truncated at its beginning between characters", async () => {
  const text = noise(9000) + "🦊".repeat(3000) + noise(3000, 7);
  const { address, content, left } = await makeLink({ ...CONTENT, text }, PAGE);
  assert.ok(address.length <= MAX_LINK);
  assert.equal(left.characters, text.length - content.text.length);
  assert.ok(text.endsWith(content.text));
  assert.doesNotMatch(content.text, /^[\udc00-\udfff]/);
});

test("an invalid link is ignored or refused with a sentence", async () => {
  assert.equal(await readLink("#write"), null);
  const { address } = await makeLink(CONTENT, PAGE);
  const fragment = fragmentOf(address);
  for (const [broken, message] of [
    [fragment.slice(0, -9), /damaged/],
    [`${fragment}!`, /damaged/],
    [fragment.replace("=2.", "=3."), /another version of the playground \(3\)/],
    ["#share=", /damaged/],
    [`#share=2.${"A".repeat(MAX_LINK)}`, /longer than a link/],
  ]) {
    await assert.rejects(readLink(broken), (error) => error instanceof UnreadableLink && message.test(error.message));
  }
  const bomb = await makeLink({ text: "a".repeat(2_000_000), controls: {} }, PAGE);
  await assert.rejects(readLink(fragmentOf(bomb.address)), /unpacks to more/);
  const strange = await makeLink({ text: "x", controls: [] }, PAGE);
  await assert.rejects(readLink(fragmentOf(strange.address)), /does not hold a text/);
});

test("a link contains a valid memory and note and ignores invalid ones", async () => {
  const memory = { text: "Ann is old.", note: "She laughs.", lines: 2 };
  const content = { text: "Once", controls: {}, memory };
  const { address } = await makeLink(content, "https://a.example/");
  assert.deepEqual((await readLink(new URL(address).hash)).memory, memory);
  for (const wrong of [3, [], { text: 7 }, { text: " ", note: "" }]) {
    const { address: other } = await makeLink({ ...content, memory: wrong }, "https://a.example/");
    assert.equal((await readLink(new URL(other).hash)).memory, undefined);
  }
});
