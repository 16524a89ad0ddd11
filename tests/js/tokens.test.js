import assert from "node:assert/strict";
import { test } from "node:test";
import { Stretch, TokenMemory, levelOf, readTokens } from "../../assets/core/tokens.js";

const token = (length, logprob = -1) => ({ token_id: 1, text: "", kind: 0, length, logprob, alternatives: [] });
const places = (cells) => cells.map(({ from, to }) => [from, to]);

function written(prompt, text, lengths, options) {
  const stretch = new Stretch(prompt, options);
  stretch.text = text;
  stretch.add(lengths.map((length) => token(length)));
  stretch.close();
  return stretch;
}

test("a packed record gets the names of its fields", () => {
  const [read] = readTokens([[7, " a", 0, 2, -0.5, -0.4, 1, false, [[7, " a", 0, -0.5, -0.4, null]]]]);
  assert.deepEqual(read, {
    token_id: 7, text: " a", kind: 0, length: 2, logprob: -0.5, sampled_logprob: -0.4, rank: 1, filtered_away: false,
    alternatives: [{ token_id: 7, text: " a", kind: 0, logprob: -0.5, sampled_logprob: -0.4, removed_by: null }],
  });
});

test("probabilities are divided into five levels", () => {
  assert.deepEqual([1, 0.5, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001].map((p) => levelOf(Math.log(p) + 1e-9)), [1, 1, 2, 2, 3, 3, 4, 4, 5]);
});

test("the tokens of one character form one cell with their joint probability", () => {
  const stretch = written("ab", "🦊!", [0, 0, 2, 1]);
  assert.deepEqual(places(stretch.cells), [[2, 4], [4, 5]]);
  assert.deepEqual(stretch.cells.map(({ logprob }) => logprob), [-3, -1]);
});

test("a healed token begins in the prompt", () => {
  assert.deepEqual(places(written("Once upo", "n a", [1, 2], { back: 3 }).cells), [[5, 9], [9, 11]]);
});

test("a text cut at a stop string has no cell after its end", () => {
  assert.deepEqual(places(written("", "word", [4, 6]).cells), [[0, 4]]);
  assert.deepEqual(places(written("", "words", [4, 6]).cells), [[0, 4], [4, 5]]);
});

test("known tokens apply up to the first change and return with the text", () => {
  const memory = new TokenMemory();
  memory.add(written("Once", " upon a time", [5, 2, 5]));
  assert.equal(memory.cellsOf("Once upon a time").length, 3);
  assert.equal(memory.cellsOf("Once upon a tide").length, 2);
  assert.equal(memory.cellsOf("Twice upon a time").length, 0);
  assert.equal(memory.cellsOf("Once upon a time, and more").length, 3);
});

test("generated tokens are preferred to a score of the same text", () => {
  const memory = new TokenMemory();
  const own = memory.add(written("A", " b", [2]));
  const score = memory.add(Stretch.ofScore("A b c", [token(1, null), token(2), token(2)]));
  assert.deepEqual(memory.cellsOf("A b c").map(({ stretch }) => stretch === own), [false, true, false]);
  assert.equal(memory.cellsOf("A b c")[0].logprob, null, "the first token of a text has no probability");
  assert.deepEqual(places(score.cells), [[0, 1], [1, 3], [3, 5]]);
});

test("a score without the prompt's last token, which was healed, ends before it", () => {
  const score = Stretch.ofScore("A b cd", [token(1, null), token(2)], 3);
  assert.deepEqual(places(score.cells), [[0, 1], [1, 3]]);
});

test("the token that ended the text is known as long as the text ends there", () => {
  const memory = new TokenMemory();
  const stretch = memory.add(new Stretch("A"));
  stretch.text = " b";
  stretch.add([token(2)]);
  stretch.close({ ...token(0), logprob: -0.1 });
  assert.equal(memory.endOf("A b")?.logprob, -0.1);
  assert.equal(memory.endOf("A b!"), null);
});
