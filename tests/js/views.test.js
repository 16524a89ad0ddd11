import assert from "node:assert/strict";
import { test } from "node:test";
import { toCSV, tokensAsCSV } from "../../assets/core/csv.js";
import { wordChanges } from "../../assets/core/word_diff.js";
import { BranchTree } from "../../assets/core/tree.js";
import { layOut } from "../../assets/views/branches/layout.js";

test("CSV fields that look like formulas are escaped and quotes are doubled", () => {
  assert.equal(toCSV([["=1+1", 'a "b"', "c,d", 2.5, null, true, " x"]]), `'=1+1,"a ""b""","c,d",2.5,,true, x\r\n`);
});

test("a table of tokens has as many columns as the most alternatives need", () => {
  const other = { token_id: 2, text: "b", logprob: -2, sampled_logprob: null, removed_by: "top_k" };
  const token = { token_id: 1, text: "a", logprob: -1, sampled_logprob: -0.5, rank: 1, filtered_away: false };
  const lines = tokensAsCSV([{ ...token, alternatives: [] }, { ...token, alternatives: [other] }]).split("\r\n");
  assert.equal(lines[0].split(",").length, 12);
  assert.equal(lines[1], "0,1,a,-1,-0.5,1,false,,,,,");
  assert.equal(lines[2], "1,1,a,-1,-0.5,1,false,2,b,-2,,top_k");
});

test("two texts are compared word by word", () => {
  assert.deepEqual(wordChanges("the old king slept", "the young king slept well"), [
    ["same", ["the "]],
    ["del", ["old "]],
    ["ins", ["young "]],
    ["same", ["king "]],
    ["del", ["slept"]],
    ["ins", ["slept ", "well"]],
  ]);
  assert.equal(wordChanges("a b c d", "w x y z"), null, "nothing in common");
});

/** A tree whose nodes are named and stand below the node that `parents` names. */
function treeOf(parents) {
  const nodes = Object.entries(parents).map(([id, parent]) => ({ id, parent, at: 0, pieces: [[id, 0]], kind: "write" }));
  return BranchTree.fromList(nodes, "root");
}

const shown = (tree, view = {}) =>
  layOut(tree, { closed: new Set(), unfolded: new Set(), chosen: null, ...view }).map(
    ({ node, fold, level, joint }) => `${"  ".repeat(level)}${joint ?? "run"} ${node?.id ?? fold.map(({ id }) => id).join("+")}`,
  );

test("an only child has the level of its parent and several children are indented", () => {
  const tree = treeOf({ a: "root", b: "a", c: "b", d: "b", e: "d" });
  assert.deepEqual(shown(tree), ["run a", "run b", "  tee c", "  elbow d", "  run e"]);
});

test("the inner nodes of a long run are one row unless chosen or unfolded", () => {
  const tree = treeOf({ a: "root", b: "a", c: "b", d: "c", e: "d" });
  assert.deepEqual(shown(tree), ["run a", "run b+c+d", "run e"]);
  assert.deepEqual(shown(tree, { unfolded: new Set(["b"]) }), ["run a", "run b", "run c", "run d", "run e"]);
  assert.deepEqual(shown(tree, { chosen: "c" }), ["run a", "run b", "run c", "run d", "run e"]);
});

test("a closed branch counts its hidden nodes", () => {
  const tree = treeOf({ a: "root", b: "a", c: "a", d: "c" });
  const [row] = layOut(tree, { closed: new Set(["a"]), unfolded: new Set(), chosen: null });
  assert.deepEqual([row.isOpen, row.hidden], [false, 3]);
});
