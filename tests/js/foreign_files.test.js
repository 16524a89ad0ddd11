import assert from "node:assert/strict";
import { test } from "node:test";
import { fromFile } from "../../assets/core/session_file.js";

/** @param {any} given */
const open = (given) => fromFile(JSON.stringify(given));

/** The full texts of all nodes. @param {Session} session */
const texts = ({ tree }) => tree.toList().map(({ id }) => tree.textOf(id));

const MIKUPAD = {
  name: "Fox",
  prompt: [{ type: "user", content: "The fox " }, { content: "ran", prob: 0.5 }, { content: " away." }, { type: "user", content: "\r\nThen" }],
  memoryTokens: { prefix: "[Memory: ", text: "A fox.", suffix: "]\\n" },
  authorNoteTokens: { prefix: "", text: "Short.", suffix: "" },
  authorNoteDepth: 5,
  temperature: 0.7,
};
const KOBOLD = {
  gamestarted: true,
  prompt: "Once",
  actions: [" upon", "", " a time."],
  memory: "A castle.",
  authorsnote: "Sad",
  anotetemplate: "[Style: <|>]",
  worldinfo: [],
};
const leaf = (/** @type {string} */ id, /** @type {string} */ text, /** @type {any} */ more = {}) => ({ id, text, children: [], ...more });
const LOOM = {
  root: leaf("a", "", {
    children: [leaf("b", "It was", { children: [leaf("c", " dark."), leaf("d", " late.", { meta: { source: "AI" }, bookmark: true })] })],
  }),
  selected_node_id: "d",
  chapters: {},
};

test("a mikupad session keeps its authors, its memory and its note", () => {
  const session = open(MIKUPAD);
  assert.equal(session.name, "Fox");
  assert.deepEqual(session.written.pieces, [["The fox ", 0], ["ran away.", 1], ["\nThen", 0]]);
  assert.equal(session.written.runs, 1);
  assert.deepEqual(session.tree.toList().map(({ kind }) => kind), ["write", "generate", "write"]);
  assert.deepEqual(session.memory, { text: "[Memory: A fox.]\n", note: "Short.", lines: 5 });
});

test("an old mikupad session has its values as JSON in strings", () => {
  const old = Object.fromEntries(Object.entries(MIKUPAD).map(([key, value]) => [key, key === "name" ? value : JSON.stringify(value)]));
  assert.deepEqual(open(old).written.pieces, open(MIKUPAD).written.pieces);
  assert.deepEqual(open(old).memory, open(MIKUPAD).memory);
});

test("a KoboldAI Lite story has a node for each action, its memory and its note", () => {
  const session = open(KOBOLD);
  assert.deepEqual(texts(session), ["Once", "Once upon", "Once upon a time."]);
  assert.deepEqual(session.written.pieces, [["Once upon a time.", 0]]);
  assert.deepEqual(session.memory, { text: "A castle.", note: "[Style: Sad]", lines: 3 });
});

test("a tree of Loom keeps its branches, its marks and the selected node", () => {
  const session = open(LOOM);
  assert.deepEqual(texts(session), ["It was", "It was dark.", "It was late."]);
  assert.deepEqual(session.written.pieces, [["It was", 0], [" late.", 1]]);
  assert.deepEqual(session.tree.toList().map(({ starred }) => starred), [false, false, true]);
  assert.equal(session.tree.textOf(session.tree.current), "It was late.");
  assert.equal(open(LOOM.root).written.text, "It was dark."); // without a selection the first branch
});

test("a flat tree is read as a list and as an object, in any order", () => {
  const list = [
    { id: "c", parent_id: "a", text: " late." },
    { id: "a", parent_id: null, text: "It was" },
    { id: "b", parent_id: "a", text: " dark." },
  ];
  const object = Object.fromEntries(list.map(({ id, parent_id, text }) => [id, { parentId: parent_id, text }]));
  for (const nodes of [list, object]) {
    assert.deepEqual(texts(open({ nodes, current: "b" })), ["It was", "It was late.", "It was dark."]);
    assert.equal(open({ nodes, current: "b" }).written.text, "It was dark.");
  }
});

test("a tree of any depth is read and its number of nodes is limited", () => {
  let [text, most] = ["", 3000];
  for (let i = 0; i < most; i += 1) text += `{"text":"a","children":[`;
  assert.equal(fromFile(text + "]}".repeat(most)).written.text.length, most);
  const nodes = Array.from({ length: 20_001 }, (_, i) => ({ id: `n${i}`, text: "a" }));
  assert.throws(() => open({ nodes }), /20,?001 nodes/);
});

test("an invalid file of another program is refused with the reason", () => {
  for (const [given, message] of [
    [{ ...MIKUPAD, prompt: [{ type: "user", content: "A" }, { content: 3 }] }, /part 2 of the story/],
    [{ ...MIKUPAD, prompt: [null, { content: "A" }] }, /part 1 of the story/],
    [{ ...KOBOLD, actions: ["A", ["B"]] }, /part 3 of the story/],
    [{ root: leaf("a", "A", { children: [{ text: 1 }] }) }, /part 2 of the story/],
    [{ root: leaf("a", "A", { children: [leaf("b", "B", { children: "no" })] }) }, /children of node 2/],
    [{ nodes: [{ id: "a", parent: "b", text: "A" }, { id: "b", parent: "a", text: "B" }] }, /2 nodes have no parent/],
    [{ nodes: [{ id: "a", text: "A" }, { id: "a", text: "B" }] }, /node 2 has no id of its own/],
    [{ nodes: [{ id: {}, text: "A" }] }, /node 1 has no id of its own/],
    [{ prompt: "A", actions: {} }, /nor one of mikupad, KoboldAI Lite or Loom/],
    [{ prompt: [], root: [], nodes: {} }, /nor one of mikupad/],
    [[MIKUPAD], /nor one of mikupad/],
    [null, /nor one of mikupad/],
  ]) {
    assert.throws(() => open(given), message, JSON.stringify(given).slice(0, 100));
  }
});

test("hostile keys and lone surrogates are read safely", () => {
  const hostile = `{"nodes": {"__proto__": {"text": "A\\ud83e", "name": "\\udd8a"}, "constructor": {"parent": "__proto__", "text": "B"}}, "__proto__": {"x": 1}}`;
  const session = fromFile(hostile);
  assert.equal(session.written.text, "A\ufffdB");
  assert.equal(session.tree.toList()[0].name, "\ufffd");
  assert.equal(/** @type {any} */ ({}).x, undefined);
  const wrong = open({ ...KOBOLD, memory: { text: 3 }, authorsnote: ["a"], anotetemplate: 1 });
  assert.equal(wrong.memory, null);
  assert.equal(open({ ...KOBOLD, memory: "🦊".repeat(3000) }).memory?.text.length, 4000);
  assert.equal(open({ ...MIKUPAD, authorNoteDepth: "many" }).memory?.lines, 3);
});
