import assert from "node:assert/strict";
import { test } from "node:test";
import { fromFile, fromSaved, newSession, stampOf, toFile, toSaved } from "../../assets/core/session_file.js";
import { PERSON } from "../../assets/core/text.js";
import { checkSize, readTextFile } from "../../assets/core/text_file.js";

/** A session with a text, a step and a branch. */
function written() {
  const session = { ...newSession(), name: "A *tale*", stamp: "s1" };
  session.written.replace("edit", 0, 0, [["Once ```` upon", PERSON]], [0, 0], [14, 14]);
  session.tree.commit(session.written.pieces);
  return session;
}

test("a saved session is the same when it is read", () => {
  const session = written();
  const raw = toSaved(session, { withSteps: true });
  assert.equal(stampOf(raw), "s1");
  const read = fromSaved("id", raw);
  assert.equal(toSaved({ ...read, time: session.time }, { withSteps: true }), toSaved(session, { withSteps: true }));
  assert.equal(read.written.undo().at, 0);
});

test("a session saved without steps keeps its text and branches", () => {
  const read = fromSaved("id", toSaved(written(), { withSteps: false }));
  assert.equal(read.written.text, "Once ```` upon");
  assert.equal(read.written.canUndo, false);
  assert.equal(read.tree.size, 1);
});

test("an exported file is read as a new session with the same branches", () => {
  const session = written();
  const { file, type, content } = toFile(session, "json");
  assert.deepEqual([file, type], ["A-tale.json", "application/json"]);
  const read = fromFile(content);
  assert.notEqual(read.id, session.id);
  assert.deepEqual(read.tree.toList(), session.tree.toList());
});

test("a text cannot close the code fence of an exported Markdown file", () => {
  const { content } = toFile(written(), "markdown");
  assert.match(content, /^# A \\\*tale\\\*\n\n`````text\nOnce ```` upon\n`````\n/);
});

test("an invalid file is refused with the reason", () => {
  const session = JSON.parse(toFile(written(), "json").content);
  for (const [text, message] of [
    ["not JSON", /not JSON/],
    ["{}", /not a session of this playground/],
    [JSON.stringify({ ...session, version: 9 }), /its version is 9/],
    [JSON.stringify({ ...session, nodes: 3 }), /no list of nodes/],
    [JSON.stringify({ ...session, steps: [{}], position: 1 }), /its steps/],
    [JSON.stringify({ ...session, position: 5 }), /undo position/],
  ]) {
    assert.throws(() => fromFile(text), message);
  }
});

test("files that are exported of a long text can be read", async () => {
  const session = newSession();
  const text = "The quick brown fox jumps. ".repeat(220_000);
  session.written.replace("edit", 0, 0, [[text, PERSON]], [0, 0], [0, 0]);
  session.tree.commit(session.written.pieces);
  const files = ["json", "text"].map((form) => toFile(session, form)).map(({ file, content }) => new File([content], file));
  checkSize(files[0]);
  assert.ok(fromFile(await files[0].text()).written.text === text);
  assert.ok((await readTextFile(files[1])) === text);
});

test("a larger file is refused before it is read", async () => {
  const file = { size: 40 * 2 ** 20 + 1, arrayBuffer: () => assert.fail("was read") };
  await assert.rejects(readTextFile(file), { message: "The file has 41 MB; at most 40 MB are read." });
});
