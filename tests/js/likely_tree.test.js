// Tests of the tree of likely continuations: how it grows, how much probability it covers, which nodes are open.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LikelyTree, pathOf } from "../../assets/core/likely_tree.js";

const node = (id, parent, token, probability, total, more = {}) => ({
  id, parent, depth: more.depth ?? (parent === null ? 1 : 2), token_id: id, token, text: more.text ?? token,
  logprob: Math.log(probability), sum_logprob: Math.log(total), ends: false, ...more,
});
const near = (found, expected) => found.forEach((one, i) => assert.ok(Math.abs(one - expected[i]) < 1e-9, `${found}`));

function grown() {
  const tree = new LikelyTree();
  tree.begin(tree.root);
  tree.add([node(0, null, " a", 0.6, 0.6), node(1, null, ".", 0.3, 0.3, { ends: true })]);
  tree.add([node(2, 0, " b", 0.5, 0.3), node(3, 0, " c", 0.2, 0.12)]);
  return tree;
}

test("a tree covers the sum of its nodes at each length, ended texts included", () => {
  const tree = grown();
  near(tree.covered, [0.9, 0.3 + 0.12 + 0.3]);
  assert.deepEqual(new LikelyTree().covered, []);
});

test("rows are the open nodes' children, in order", () => {
  const tree = grown();
  assert.deepEqual(tree.rows.map(({ token }) => token), [" a", "."]);
  tree.openBest(tree.root);
  assert.deepEqual(tree.rows.map(({ token }) => token), [" a", " b", " c", "."]);
  tree.open.delete(tree.root.children[0]);
  assert.deepEqual(tree.rows.map(({ token }) => token), [" a", "."]);
});

test("the text of a node begins with the text of the node below which it grew", () => {
  const tree = grown();
  const [a] = tree.root.children;
  const b = a.children[0];
  tree.begin(b); // " b" stands for the whole continuation here
  tree.add([node(0, null, " d", 0.5, 0.5), node(1, 0, " e", 0.5, 0.25, { text: " d e" })]);
  const [d] = b.children;
  assert.deepEqual([d.text, d.children[0].text], [" b d", " b d e"]);
});

test("growing a node replaces its children and their probabilities", () => {
  const tree = grown();
  const [a] = tree.root.children;
  tree.begin(a);
  assert.equal(a.children.length, 2); // kept until the first answer
  tree.add([node(0, null, " d", 0.5, 0.5), node(1, 0, " e", 0.5, 0.25)]);
  assert.deepEqual(a.children.map(({ token }) => token), [" d"]);
  const [e] = a.children[0].children;
  assert.deepEqual([e.depth, pathOf(e).map(({ token }) => token)], [3, ["", " a", " d", " e"]]);
  near([Math.exp(e.total)], [0.6 * 0.25]);
  near(tree.covered, [0.9, 0.3 + 0.3, 0.15 + 0.3]);
});
