// A batch: which rows are sent, what is done, and the file that comes back.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Batch, addedNames, asTemplate, secondsLeft } from "../../assets/core/batch.js";
import { PLACEHOLDER } from "../../assets/core/own_scaffolds.js";

const OK = { reason: "length", message: "Stopped at 5.", mean_logprob: -1.5, completion_tokens: 5, seed: 9 };
const row = (written, ...values) => ({ written, values });

function batchOf(rows, changed = {}) {
  const file = { name: "my.rows.csv", form: "csv", separator: ";", header: "a;b", columns: ["a", "b"], rows, lineEnd: "\r\n", hasMark: true, ...changed };
  return new Batch(file, { template: "{b}", names: ["b"], controls: { temperature: 1 }, seed: 9 });
}

test("rows are sent in parts, with the template's columns only, and each once", () => {
  const batch = batchOf(Array.from({ length: 5 }, (_, i) => row(`${i};x`, String(i), "x".repeat(i))));
  batch.begin();
  assert.deepEqual(batch.next(2, 100, 100), [[0, [""]], [1, ["x"]]]);
  assert.deepEqual(batch.next(9, 4, 100), [[2, ["xx"]]]); // with the next row the part would have over 100 characters
  assert.deepEqual(batch.next(9, 1, 100), [[3, ["xxx"]]]); // one row is always sent
  assert.ok(batch.add(1, "text", OK));
  assert.ok(!batch.add(1, "again", OK), "not sent");
  batch.putBack();
  assert.deepEqual(batch.next(9, 100, 100).map(([number]) => number), [0, 2, 3, 4]);
  assert.deepEqual(batch.next(9, 100, 100), []);
});

test("the prompts of a part have a limit together, with the template and repeated placeholders", () => {
  const batch = batchOf(Array.from({ length: 4 }, (_, i) => row(`${i};x`, String(i), "x".repeat(10))));
  batch.asked.template = "{b}, { b } and {{b}}"; // 20 characters
  batch.begin();
  assert.equal(batch.next(9, 100, 99).length, 1); // two rows may have 100
  assert.equal(batch.next(9, 100, 100).length, 2);
  assert.equal(batch.next(9, 100, 1).length, 1); // one row is always sent
});

test("cancelled and failed rows are sent again in the next run", () => {
  const batch = batchOf([row("1;x", "1", "x"), row("2;x", "2", "x"), row("3;x", "3", "x"), row("4;x", "4", "x")]);
  batch.begin();
  batch.next(9, 100, 100);
  batch.add(0, "done", OK);
  batch.add(1, "half", { ...OK, reason: "cancelled" });
  assert.ok(!batch.add(2, "", { reason: "cancelled" }));
  batch.add(3, "", { reason: "error", message: "too long" });
  assert.deepEqual([batch.done, batch.failed, batch.tokens], [1, 1, 10]);
  assert.equal(batch.results[2], null);
  batch.begin();
  assert.deepEqual(batch.next(9, 100, 100).map(([number]) => number), [1, 2, 3]);
});

test("the results file keeps the original columns and adds new ones", () => {
  const batch = batchOf([row('"x; ""y""";2', 'x; "y"', "2"), row("=1+1;3", "=1+1", "3")]);
  batch.begin();
  batch.next(9, 100, 100);
  batch.add(0, '=HYPERLINK("//x")\nline; two', OK);
  assert.equal(
    batch.toFile(),
    "\ufeffa;b;text;mean_logprob;completion_tokens;seed;reason;message\r\n" +
      '"x; ""y""";2;"\'=HYPERLINK(""//x"")\nline; two";-1.5;5;9;length;Stopped at 5.\r\n' +
      "=1+1;3;;;;;;\r\n",
  );
  assert.equal(batch.fileName, "my.rows-results.csv");
});

test("JSON objects keep their values to the last digit", () => {
  const rows = [row('{"n": 12345678901234567890, "__proto__": {"x": 1.50}}', "1", "2"), row("{ }", null, "2")];
  const batch = batchOf(rows, { form: "jsonl", columns: ["n", "text"], lineEnd: "\n", hasMark: false, name: ".jsonl" });
  batch.begin();
  batch.next(9, 100, 100);
  batch.add(1, "=\u2028\n", OK);
  const [first, second] = batch.toFile().split("\n");
  assert.ok(first.startsWith('{"n": 12345678901234567890, "__proto__": {"x": 1.50}, "generated_text": null, "mean_logprob": null'));
  assert.equal(JSON.parse(first).reason, null);
  assert.equal(JSON.parse(second).generated_text, "=\u2028\n");
  assert.equal({}.x, undefined);
  assert.equal(batch.fileName, "rows-results.jsonl");
});

test("added columns have names that the file does not use", () => {
  assert.equal(addedNames([])[0], "text");
  assert.equal(addedNames(["text"])[0], "generated_text");
  assert.equal(addedNames(["text", "generated_text"])[0], "generated_text_2");
});

test("a batch reports the first row and column without a value", () => {
  assert.equal(batchOf([row("1", "1", "")]).missing, null);
  assert.deepEqual(batchOf([row("1", null, "x"), row("2", "2", null)]).missing, { row: 2, column: "b" });
});

test("a stored batch continues only with the same file, template and controls", () => {
  const batch = batchOf([row("1;2", "1", "2")]);
  batch.begin();
  batch.next(1, 1, 100);
  batch.add(0, "text", OK);
  const again = Batch.fromKept(batch.file, JSON.parse(JSON.stringify(batch.toKept())));
  assert.deepEqual(again, Object.assign(batch, { left: [], sent: new Set() }));
  assert.ok(again.isFor(batch.file, { template: "{b}", controls: { temperature: 1 } }));
  assert.ok(!again.isFor(batch.file, { template: "{b}", controls: { temperature: 2 } }));
  assert.ok(!again.isFor(null, { template: "{b}", controls: { temperature: 1 } }));
  for (const wrong of [null, 3, {}, { ...batch.toKept(), results: [] }, { ...batch.toKept(), version: 0 }]) {
    assert.equal(Batch.fromKept(batch.file, wrong), null);
  }
});

test("the time left is known once some rows are done", () => {
  assert.equal(secondsLeft(2, 10, 60), null);
  assert.equal(secondsLeft(10, 90, 20), 180);
});

test("in a template, braces of the text are doubled", () => {
  assert.equal(asTemplate("if (x) { {hero} } {}", PLACEHOLDER), "if (x) {{ {hero} }} {{}}");
});
