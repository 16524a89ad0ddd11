import assert from "node:assert/strict";
import { test } from "node:test";
import { bitsText, measuresOf, perplexityText } from "../../assets/core/measures.js";
import { isBeyond, settled, typedNumber } from "../../assets/core/numbers.js";

const temperature = { minimum: 0, maximum: 2, isWhole: false };
const length = { minimum: 0, maximum: 2048, isWhole: true };

test("a field is corrected to a valid number or to null", () => {
  assert.equal(settled("0,7", temperature), 0.7);
  assert.equal(settled("\u0660\u066b\u0667", temperature), 0.7);
  assert.equal(settled("99", temperature), 2);
  assert.equal(settled("-5", temperature), 0);
  assert.equal(settled("12.6", length), 13);
  assert.equal(settled("1,200", length), 1200);
  for (const text of ["", " ", "abc", "1e999", "--"]) assert.equal(settled(text, temperature), null);
});

test("only numbers outside the limits are reported as such", () => {
  for (const text of ["99", "-0,1", "1e999"]) assert.ok(isBeyond(text, temperature), text);
  for (const text of ["", " ", "abc", "--", "0", "2", "0,7"]) assert.ok(!isBeyond(text, temperature), text);
});

test("typed digits and separators are converted for a number field", () => {
  assert.equal(typedNumber(",", false), ".");
  assert.equal(typedNumber(",", true), "");
  assert.equal(typedNumber("\u0661\u0662", true), "12");
});

test("perplexity is 2 to the power of the bits per token, also when rounded", () => {
  let state = 7;
  const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  for (let i = 0; i < 200; i += 1) {
    const logprobs = [null, ...Array.from({ length: 1 + Math.floor(20 * random()) }, () => -20 * random())];
    const found = measuresOf(logprobs, 100);
    const known = logprobs.slice(1);
    const mean = known.reduce((sum, one) => sum + one, 0) / known.length;
    assert.ok(Math.abs(found.perplexity / Math.exp(-mean) - 1) < 1e-9);
    assert.equal(found.tokens, known.length);
    assert.ok(Math.abs(found.bitsPerByte - (found.bitsPerToken * known.length) / 100) < 1e-9);
    const shown = Number(perplexityText(found.perplexity).replaceAll(",", ""));
    assert.ok(Math.abs(2 ** Number(bitsText(found.bitsPerToken)) / shown - 1) < 0.006);
  }
  assert.equal(measuresOf([null]), null);
});
