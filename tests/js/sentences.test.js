import assert from "node:assert/strict";
import { test } from "node:test";
import { lastSentenceEnd, sentenceEndFrom, sentenceEnds, spokenPart } from "../../assets/core/sentences.js";
import { Completions } from "../../assets/views/write/completions.js";

const kept = (text) => text.slice(0, lastSentenceEnd(text));

test("a sentence ends after its punctuation and quotes", () => {
  assert.equal(kept('He said, "Go." Then he'), 'He said, "Go."');
  assert.equal(kept("Really?! Yes\u2026 no"), "Really?! Yes\u2026");
  assert.equal(kept("Mr. Smith met J. Doe. She"), "Mr. Smith met J. Doe.");
  assert.equal(kept("It cost 3.14 and more"), "");
  assert.equal(kept("A title\n\nand on"), "A title");
  assert.equal(kept("\u6771\u4eac\u3002 \u305d"), "\u6771\u4eac\u3002");
  assert.deepEqual(sentenceEnds(""), []);
  assert.equal(sentenceEndFrom("One. Two. Three", 5), 9);
});

test("a long row of signs is searched once", () => {
  const dots = ".".repeat(1_000_000); // searching again from each dot would take half an hour
  assert.deepEqual(sentenceEnds(`${dots}a`), []);
  assert.deepEqual(sentenceEnds(`${dots}" a`), [dots.length + 1]);
  assert.deepEqual(sentenceEnds('a." .b?!" ..." \n.'), [3, 9, 14, 17]);
});

/** A request whose completion has a token a word. */
function written(request, words) {
  const completions = new Completions({ prompt: "P", ...request });
  words.forEach((text, i) => completions.add({ index: 0, text, tokens: i + 1 }));
  return completions;
}

const WORDS = ["One.", " Two", " is", " longer.", " Three", " goes", " on.", " Four"];

test("a completion within the length is cut after its last whole sentence", () => {
  const completions = written({ ending: "within", length: 6 }, WORDS.slice(0, 6));
  assert.equal(completions.wanted(2048), 6);
  completions.at(0).end = { reason: "length" };
  completions.cut(0, completions.surplus(0, false));
  assert.equal(completions.at(0).text, "One. Two is longer.");
});

test("a completion beyond the length stops at the end of its sentence", () => {
  const completions = written({ ending: "beyond", length: 6 }, WORDS.slice(0, 7));
  assert.equal(completions.wanted(2048), 70);
  assert.equal(completions.isEnough, false, "a quote may follow");
  completions.add({ index: 0, text: WORDS[7], tokens: 8 });
  assert.equal(completions.isEnough, true);
  completions.at(0).end = { reason: "cancelled" };
  completions.cut(0, completions.surplus(0, true));
  assert.equal(completions.at(0).text, "One. Two is longer. Three goes on.");
});

test("stopped completions, ended completions and texts without a sentence are not cut", () => {
  for (const [reason, words] of [["cancelled", WORDS], ["stop", WORDS], ["length", ["no", " end"]]]) {
    const completions = written({ ending: "within", length: 6 }, words);
    completions.at(0).end = { reason };
    assert.equal(completions.surplus(0, false), 0);
  }
});

test("a text is read aloud sentence by sentence", () => {
  const text = '  "Who is there?" asked the miller. Nobody\nanswered him';
  const parts = [];
  for (let at = 0, part; (part = spokenPart(text, at)); at = part[1]) parts.push(text.slice(...part));
  assert.deepEqual(parts, ['"Who is there?"', "asked the miller.", "Nobody", "answered him"]);
  assert.equal(spokenPart(text, text.indexOf("answered"), true), null, "an unfinished sentence is not read while the model writes");
  assert.equal(spokenPart("  \n ", 0), null);
});

test("a very long sentence is read in parts, none cut inside a character", () => {
  for (const text of ["word ".repeat(500), "👩‍👩‍👧".repeat(200)]) {
    let at = 0, read = "";
    for (let part; (part = spokenPart(text, at)); at = part[1]) {
      assert.ok(part[1] > part[0] && part[1] - part[0] <= 300);
      assert.ok(text.slice(...part).isWellFormed());
      read += text.slice(at, part[1]);
    }
    assert.equal(read.trim(), text.trim());
  }
});
