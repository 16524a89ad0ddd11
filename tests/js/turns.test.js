// Whose turn it is in a dialogue, and the label that is written for it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { afterModel, beforeModel, readTurns } from "../../assets/core/turns.js";

/** @type {[string, string]} */
const TURNS = ["\nANN:", "\nBEN:"];

test("the visitor's label is added once after the model's turn", () => {
  assert.equal(afterModel("A mill.\n\nANN: Hello.\nBEN: Good day.", TURNS), "\nANN: ");
  assert.equal(afterModel("A mill.\n\nANN: Hello.\nBEN: Good day.\nANN: ", TURNS), "");
  assert.equal(afterModel("A mill.", TURNS), "");
  assert.equal(afterModel("BEN: Good day.", TURNS), "\nANN: ", "a label at the start of the text counts");
});

test("the model's label is added only after a turn of the visitor", () => {
  assert.equal(beforeModel("ANN: Hello.\nBEN: Good day.\nANN: Is it late?", TURNS), "\nBEN:");
  assert.equal(beforeModel("ANN: Hello.\nBEN: Good day.\nANN: ", TURNS), "");
  assert.equal(beforeModel("ANN: Hello.\nBEN:", TURNS), "");
  assert.equal(beforeModel("A mill, and ANN: Hello.", TURNS), "", "a label stands at the beginning of a line");
});

test("readTurns accepts two labels and nothing else", () => {
  assert.deepEqual(readTurns(["\nANN:", "\nBEN:"]), TURNS);
  for (const wrong of [null, {}, "ab", ["\nANN:"], ["\nANN:", 3], ["", " "], ["a".repeat(201), "b"]]) assert.equal(readTurns(wrong), undefined);
});
