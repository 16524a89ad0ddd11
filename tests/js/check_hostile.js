// Program: reads hostile texts as JSON from standard input, and fails where a module of the page changes one,
// takes one for a name of its own, or writes one as markup. Run by tests/test_hostile.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { labelOf, messageText, nodes, t } from "../../assets/core/i18n.js";
import { makeLink, readLink } from "../../assets/core/link.js";
import { fillScaffold } from "../../assets/core/scaffolds.js";
import { fromFile, fromSaved, newSession, toFile, toSaved } from "../../assets/core/session_file.js";
import { PERSON } from "../../assets/core/text.js";

globalThis.Node ??= class {}; // the browser's, which `nodes` looks for

const texts = JSON.parse(readFileSync(0, "utf8"));
const lines = (text) => text.replace(/\r/g, "\n");
const scaffold = { fields: [{ name: "a" }, { name: "b", kind: "pairs" }, { name: "c", kind: "columns" }], key: "q_a", controls: { stop: ["{a}\n{constructor}"] } };

/** A session in which every text field is this text. @param {string} text */
function sessionOf(text) {
  const session = { ...newSession(), name: text.slice(0, 200) };
  session.written.replace("edit", 0, 0, [[lines(text), PERSON]], [0, 0], [text.length, text.length]);
  session.tree.commit(session.written.pieces);
  const facts = { controls: { stop: text, temperature: 1 }, model: text.slice(0, 1000), revision: text.slice(0, 1000), precision: text.slice(0, 1000) };
  session.tree.begin({ prompt: session.written.pieces, kind: "generate", run: 1, facts });
  session.tree.grow(0, lines(text));
  session.tree.finish(0, { seed: 1, reason: text.slice(0, 1000), message: text.slice(0, 1000) });
  session.tree.end();
  session.tree.rename(session.tree.current, text.slice(0, 200));
  session.tree.follow(session.written.text);
  return session;
}

/** Outside of code fences, whatever Markdown or HTML would take for a mark is escaped. @param {string} markdown */
function assertPlain(markdown) {
  let fence = "";
  for (const line of markdown.split("\n")) {
    const mark = /^\s*(`{3,})(text)?$/.exec(line)?.[1] ?? "";
    if (!fence && mark) fence = mark;
    else if (fence && line.trim() === fence) fence = "";
    else if (!fence) assert.doesNotMatch(line, /(?<!\\)[<>[\]`]|(?<!\\)&#?\w+;/);
  }
}

for (const text of texts) {
  const session = sessionOf(text);
  const read = fromFile(toFile(session, "json").content);
  assert.deepEqual(read.tree.toList(), session.tree.toList());
  assert.equal(read.name, session.name);
  assert.equal(read.written.text, session.written.text);
  assert.deepEqual(fromSaved("id", toSaved(session, { withSteps: true })).written.steps, session.written.steps);
  assertPlain(toFile(session, "markdown").content);
  assert.match(toFile(session, "json").file, /^[\p{L}\p{M}\p{N} -]+\.json$/u);

  const clean = text.replace(/\r\n?/g, "\n").replace(/\p{Surrogate}/gu, "\ufffd");
  const controls = { stop: text, [text]: 1 };
  const { address } = await makeLink({ text: text.slice(0, 3000), controls, model: { name: text.slice(0, 100) } }, "https://gptj.example/");
  assert.match(address.slice(21), /^#share=2\.[\w-]+$/);
  const link = await readLink(address.slice(21));
  if (text.length < 3000) assert.equal(link?.text, clean);

  const { text: filled, controls: { stop }, done } = fillScaffold({ ...scaffold, text: "{a} {b} {c} {constructor} {toString}" }, { a: text, b: `${text} => ${text}`, c: text });
  assert.ok(filled.endsWith(" {constructor} {toString}"));
  assert.ok(stop.endsWith("\\n{constructor}"));
  assert.equal(typeof done, "string");
  assert.equal(messageText({ code: text, values: {}, message: text }), text);
  assert.equal(labelOf(text), text);
  assert.ok(t("run.seed", { seed: text }).includes(text));
  assert.ok(nodes("run.seed", { seed: text }).includes(text));
}

// ---- names of prototypes, at every level

const bad = '{"polluted": true, "toString": null}';
const piece = '[["x", 0]]';
const run = `{"prompt_length": 0, "__proto__": ${bad}, "controls": {"temperature": 1}}`;
const node = `{"id": "__proto__", "parent": "root", "at": 0, "pieces": ${piece}, "kind": "generate", "__proto__": ${bad}, "run": ${run}}`;
const child = `{"id": "constructor", "parent": "__proto__", "at": 1, "pieces": ${piece}, "kind": "write", "constructor": ${bad}}`;
const step = `{"at": 0, "removed": [], "inserted": ${piece}, "__proto__": ${bad}, "before": {"length": 2}, "after": "ab", "kind": {"a": 1}}`;
const file = `{"format": "gptj-playground/session", "version": 2, "current": "constructor", "__proto__": ${bad}, "steps": [${step}], "position": 1, "nodes": [${node}, ${child}]}`;
const session = fromFile(file);
assert.equal(session.tree.size, 2);
assert.equal(session.tree.textOf("constructor"), "xx");
for (const value of [session, session.written.steps[0], ...session.tree.nodes.values(), session.tree.node("__proto__")?.run, session.tree.node("__proto__")?.run?.controls]) {
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
  assert.equal(value?.polluted, undefined);
}
assert.deepEqual(session.written.steps[0].before, [0, 0]);
assert.equal(session.written.undo().at, 0);
assert.equal({}.polluted, undefined);

const linkOf = async (/** @type {string} */ json) => {
  const bytes = await new Response(new Blob([json]).stream().pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  return readLink(`#share=2.${Buffer.from(bytes).toString("base64url")}`);
};
const link = await linkOf(`{"text": "x", "__proto__": ${bad}, "controls": {"__proto__": 1, "constructor": 2}, "model": {"__proto__": "x"}}`);
assert.equal(link?.text, "x");
assert.equal(/** @type {any} */ (link).polluted, undefined);
assert.deepEqual(Object.keys(link?.controls ?? {}), ["__proto__", "constructor"]);

// ---- depth and size: a sentence, not an error of the JavaScript engine

const deep = (/** @type {number} */ depth) => "[".repeat(depth) + "]".repeat(depth);
const notASentence = /call stack|undefined|null|object Object|native code/i;
for (const content of [
  deep(400_000),
  `{"format": "gptj-playground/session", "version": ${deep(400_000)}}`,
  `{"format": "gptj-playground/session", "version": 2, "nodes": ${deep(400_000)}}`,
  file.replace(piece, deep(400_000)),
  file.replace('{"temperature": 1}', `{"temperature": ${deep(400_000)}}`),
  file.replace('"position": 1', '"position": 1e9'),
  file.replace('"at": 0, "removed"', '"at": -1, "removed"'),
]) {
  assert.throws(() => fromFile(content), (error) => error instanceof Error && !notASentence.test(error.message) && error.message.length < 200);
}
for (const content of [
  `{"text": "x", "controls": {"stop": ${deep(100_000)}}}`,
  `{"text": "x", "controls": ${deep(100_000)}}`,
  `{"text": "x", "controls": {${Array.from({ length: 300 }, (_, i) => `"c${i}": 1`).join(",")}}}`,
  deep(400_000),
]) {
  await assert.rejects(linkOf(content), /does not hold a text/);
}
const chain = Array.from({ length: 20_000 }, (_, i) => ({ id: `n${i}`, parent: i ? `n${i - 1}` : "root", at: i, pieces: [["x", 0]], kind: "write" }));
const long = fromFile(JSON.stringify({ format: "gptj-playground/session", version: 2, nodes: chain, current: "n19999" }));
assert.equal(long.written.text.length, 20_000);

console.log(`${texts.length} texts`);
