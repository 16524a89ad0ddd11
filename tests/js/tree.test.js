import assert from "node:assert/strict";
import { test } from "node:test";
import { PERSON } from "../../assets/core/text.js";
import { BranchTree } from "../../assets/core/tree.js";

const person = (text) => [[text, PERSON]];

/** What the tree holds, as lines of depth, kind and own words. */
function outline(tree, id = tree.root.id, depth = 0) {
  return tree.childrenOf(id).flatMap((child) => {
    const node = tree.node(child);
    const own = node.pieces.map(([text]) => text).join("");
    return [`${"  ".repeat(depth)}${node.kind} ${node.at} ${own}`, ...outline(tree, child, depth + 1)];
  });
}

/** One request of the model, each of whose completions arrives whole. */
function generate(tree, prompt, texts, { kind = "generate", run = 1, at } = {}) {
  tree.begin({ prompt, at, kind, run });
  tree.expect(texts.length);
  texts.forEach((text, index) => tree.grow(index, text));
  texts.forEach((_, index) => tree.finish(index, { reason: "length" }));
  tree.end();
}

test("each generation and each typed text between two is a node", () => {
  const tree = new BranchTree();
  generate(tree, person("Once"), [" upon a time"]);
  generate(tree, [["Once", PERSON], [" upon a time", 1], [" there", PERSON]], [" was"], { run: 2 });
  assert.deepEqual(outline(tree), [
    "write 0 Once",
    "  generate 4  upon a time",
    "    write 16  there",
    "      generate 22  was",
  ]);
  assert.equal(tree.textOf(tree.current), "Once upon a time there was");
});

test("a retry and several completions are siblings", () => {
  const tree = new BranchTree();
  generate(tree, person("A"), [" b"]);
  generate(tree, person("A"), [" c", " d"], { kind: "retry", run: 2 });
  assert.deepEqual(outline(tree), ["write 0 A", "  generate 1  b", "  retry 1  c", "  retry 1  d"]);
});

test("replaced text starts a branch where it differs", () => {
  const tree = new BranchTree();
  generate(tree, person("The old king"), [" slept"]);
  tree.commit([["The old king", PERSON], [" sl", 1], ["ipped", PERSON]]);
  assert.deepEqual(outline(tree), ["write 0 The old king", "  generate 12  slept", "    edit 15 ipped"]);
});

test("a branch never begins within a character", () => {
  const tree = new BranchTree();
  generate(tree, person("x"), ["🦊"]);
  tree.commit(person("x🦉"));
  for (const node of tree.toList()) assert.doesNotMatch(tree.textOf(node.id), /[\ud800-\udbff]$/);
  assert.equal(tree.textOf(tree.current), "x🦉");
});

test("empty completions do not become nodes", () => {
  const tree = new BranchTree();
  generate(tree, person("A"), ["", " b"]);
  assert.deepEqual(outline(tree), ["write 0 A", "  generate 1  b"]);
});

test("a pruned branch is restored in its place", () => {
  const tree = new BranchTree();
  generate(tree, person("A"), [" b", " c", " d"]);
  const before = outline(tree);
  const [, middle] = tree.childrenOf(tree.childrenOf(tree.root.id)[0]);
  assert.equal(tree.prune(middle), 1);
  assert.equal(outline(tree).length, 3);
  tree.restore(middle);
  assert.deepEqual(outline(tree), before);
});

test("a tree is the same after it was written and read", () => {
  const tree = new BranchTree();
  generate(tree, person("A"), [" b", " c"]);
  tree.star(tree.current);
  const again = BranchTree.fromList(JSON.parse(JSON.stringify(tree.toList())), tree.current);
  assert.deepEqual(outline(again), outline(tree));
  assert.deepEqual(again.toList(), JSON.parse(JSON.stringify(tree.toList())).map((node) => ({ ...node, run: node.run && { ...node.run, controls: {} } })));
});

test("an invalid tree is refused with the reason", () => {
  const node = (more) => ({ id: "a", parent: "root", at: 0, pieces: [["x", 0]], kind: "write", ...more });
  for (const [list, message] of [
    [null, /no list of nodes/],
    [[node({ id: "" })], /no id/],
    [[node({ parent: "b" })], /after its parent/],
    [[node({}), node({})], /id of another/],
    [[node({ at: 1 })], /more of its parent/],
    [[node({ kind: "magic" })], /kind/],
    [[node({ pieces: [["x"]] })], /not \[text, number\]/],
    [[node({ run: { seed: 1 } })], /no prompt_length/],
    [[node({ run: { prompt_length: 1, controls: { __proto__x: 1 } } })], /wrong control/],
  ]) {
    assert.throws(() => BranchTree.fromList(list), message);
  }
});

test("text generated within a text is a node that includes the rest", () => {
  const tree = new BranchTree();
  const before = person("The king was tired and went home.");
  tree.commit(before);
  tree.begin({ prompt: person("The king"), kind: "generate", run: 1, rest: person(" was tired and went home.") });
  tree.expect(2);
  tree.grow(0, " of");
  tree.grow(0, " Spain");
  tree.grow(1, ", old,");
  for (const index of [0, 1]) tree.finish(index, { reason: "length" });
  tree.end();
  assert.deepEqual(outline(tree), [
    "write 0 The king was tired and went home.",
    "  generate 8  of Spain was tired and went home.",
    "  generate 8 , old, was tired and went home.",
  ]);
  assert.equal(tree.textOf(tree.current), "The king of Spain was tired and went home.");
  assert.ok(tree.follow("The king, old, was tired and went home."));
});

test("nodes of one length are found without building the text of each", () => {
  const tree = new BranchTree();
  const add = (id, parent, at, text) => tree.add({ id, parent, at, pieces: person(text), kind: "write" });
  const depth = 2000;
  for (let i = 0; i < depth; i += 1) add(`n${i}`, i ? `n${i - 1}` : "root", i, "x");
  for (let i = 0; i < depth; i += 1) add(`c${i}`, `n${depth - 1}`, depth, i === 7 ? "z" : "y");
  add("short", "c3", 1, "b".repeat(depth)); // keeps one character of its parent
  let steps = 0;
  const get = tree.nodes.get.bind(tree.nodes);
  tree.nodes.get = (id) => ((steps += 1), get(id));
  const [start, other] = ["x".repeat(depth), `w${"x".repeat(depth - 1)}`];
  assert.equal(tree.find(`${start}q`), null, "other ends");
  assert.equal(tree.find(`${other}y`), null, "another first character and the same ends");
  assert.equal(tree.find(`${start}z`), "c7");
  assert.equal(tree.find(`${start}y`), `c${depth - 1}`, "the latest");
  tree.current = "c4";
  assert.equal(tree.find(`${start}y`), "c4", "the current one first");
  assert.equal(tree.find(`x${"b".repeat(depth)}`), "short");
  assert.ok(steps < 6 * 3 * tree.size, `${steps} nodes were read`);
});

test("half characters of a file are joined without building the text of any node", (context) => {
  const built = context.mock.method(BranchTree.prototype, "piecesOf");
  const half = (id, parent, at, text) => ({ id, parent, at, pieces: person(text), kind: "write" });
  const chain = Array.from({ length: 500 }, (_, i) => half(`n${i}`, i ? `n${i - 1}` : "root", i, "\udc00"));
  const tree = BranchTree.fromList([
    ...chain,
    half("first", "n9", 0, "\udc00"),
    half("fox", "n9", 10, "a\ud83e"),
    half("end", "fox", 12, "\udd8a."),
    half("deep", "end", 12, "\udd89"), // cuts its parent's character: begins with a half of the node above
  ]);
  assert.equal(built.mock.callCount(), 0);
  assert.deepEqual([tree.node("first").at, tree.node("n9").at], [0, 9]);
  assert.deepEqual([tree.node("end").at, tree.node("end").pieces], [11, person("\ud83e\udd8a.")]);
  assert.deepEqual([tree.node("deep").at, tree.node("deep").pieces], [11, person("\ud83e\udd89")]);
});
