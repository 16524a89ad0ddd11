import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import * as pending from "../../assets/core/pending.js";

const NONE = { request: null, isLost: false };
const LOST = { request: null, isLost: true };
const request = { session: "s", prompt: "Once", controls: { seed: "7" }, tries: 0 };

beforeEach(() => {
  const kept = new Map();
  globalThis.sessionStorage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
});

test("a lost request is resumed if its text is unchanged", () => {
  pending.keep(request);
  pending.keepLength(5);
  assert.deepEqual(pending.take("s", "Once upon"), { request: { ...request, tries: 1, shown: " upon" }, isLost: false });
});

test("a lost request is resumed once", () => {
  pending.keep(request);
  pending.keepLength(0);
  assert.notEqual(pending.take("s", "Once").request, null);
  assert.deepEqual(pending.take("s", "Once"), NONE);
});

test("a kept request is reported as lost if the text or the session changed, and is forgotten after it ended", () => {
  for (const [session, text] of [["s", "Once upon a"], ["s", "One"], ["other", "Once"]]) {
    pending.keep(request);
    pending.keepLength(0);
    assert.deepEqual(pending.take(session, text), LOST);
  }
  pending.keep(request);
  pending.drop();
  assert.deepEqual(pending.take("s", "Once"), NONE);
});

test("a request is resumed unchanged in a session whose id has changed", () => {
  const asked = { ...request, rest: " and slept.", fills: true, ending: "within" };
  pending.keep(asked);
  pending.keepLength(0);
  pending.move("another", "x");
  pending.move("s", "t");
  const again = { ...asked, session: "t", tries: 1, shown: "" };
  assert.deepEqual(pending.take("t", "Once and slept."), { request: again, isLost: false });
});

test("a request is resumed if words that were typed while it ran follow its own, and may be continued or removed", () => {
  for (const [typed, text] of [[" mine", "Once mine."], [" mine", "Once mine too."], [undefined, "Once."]]) {
    pending.keep({ ...request, rest: ".", memory: null });
    pending.keepLength(0);
    assert.equal(pending.insertTyped("other", " mine"), null);
    assert.equal(pending.insertTyped("s", " mine"), ".");
    assert.equal(pending.insertTyped("s", " too"), "."); // these follow
    const { request: again } = pending.take("s", text);
    assert.equal(again.memory, null);
    assert.equal(again.typed, typed && text.slice(4, -1));
  }
  pending.keep({ ...request, rest: "." });
  pending.keepLength(0);
  pending.insertTyped("s", " mine");
  assert.deepEqual(pending.take("s", "Once theirs."), LOST);
});

test("typed words are kept for each session and move with its id", () => {
  assert.equal(pending.typedIn("s"), "");
  pending.keepTyped("s", " mine");
  pending.keepTyped("other", " theirs");
  pending.move("s", "t");
  assert.deepEqual(["s", "t", "other"].map(pending.typedIn), ["", " mine", " theirs"]);
  pending.keepTyped("t", "");
  assert.equal(pending.typedIn("t"), "");
});

test("a request is lost after three tries", () => {
  pending.keep({ ...request, tries: 3 });
  pending.keepLength(0);
  assert.deepEqual(pending.take("s", "Once"), LOST);
});

test("invalid stored requests are ignored", () => {
  for (const raw of ["", "{", "null", "[]", '{"session":"s","prompt":"","tries":0,"controls":null}']) {
    sessionStorage.setItem("gptj-playground/pending", raw);
    assert.deepEqual(pending.take("s", ""), NONE);
  }
});

test("a tab without storage resumes no request", () => {
  delete globalThis.sessionStorage;
  pending.keep(request);
  pending.keepLength(0);
  assert.deepEqual(pending.take("s", "Once"), NONE);
});
