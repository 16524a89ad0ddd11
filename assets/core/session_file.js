// A session as text: saves it, exports it as JSON or Markdown, and reads it from untrusted data.
// A session: {id, name, time, stamp, written, tree, controls, scaffold}; `controls` are those that differ from
// their initial values, null if they are unknown; `scaffold` is the text and the controls that the last scaffold set;
// `memory` is read besides the text.

import { head } from "./characters.js";
import { readForeign } from "./foreign_files.js";
import { t, valueText } from "./i18n.js";
import { newId } from "./id.js";
import { readMemory } from "./memory.js";
import { WrittenText, pieces } from "./text.js";
import { BranchTree } from "./tree.js";
import { isCount, isObject, readControls, readPieces } from "./tree_file.js";
import { readTurns } from "./turns.js";

const FORMAT = "gptj-playground/session";
const VERSION = 2; // 1 had no tree, and was not exported
const FIRST_WORDS = 60;

/** @returns {Session} */
export function newSession() {
  const [written, tree] = [new WrittenText(), new BranchTree()];
  return { id: newId(), name: "", time: Date.now(), stamp: null, written, tree, controls: null, scaffold: null, memory: null };
}

/**
 * The session as JSON for the storage. `time` and `stamp` come first, so `stampOf` finds the stamp without parsing.
 * @param {Session} session @param {{withSteps: boolean}} options
 */
export function toSaved({ name, time, stamp, written, tree, controls, scaffold, memory }, { withSteps }) {
  const { runs, position, steps } = written;
  return JSON.stringify({
    version: VERSION,
    time,
    stamp,
    name,
    controls: controls ?? undefined,
    scaffold: scaffold ?? undefined,
    memory: memory ?? undefined,
    runs,
    pieces: written.pieces,
    position: withSteps ? position : 0,
    steps: withSteps ? steps : [],
    current: tree.current,
    nodes: tree.toList(),
  });
}

/** @param {string | null} raw */
export const stampOf = (raw) => (raw === null ? null : (/"stamp":"([^"]*)"/.exec(raw.slice(0, 120))?.[1] ?? ""));

/** A saved session; raises an error that says what is wrong. @param {string} id @param {string} raw */
export const fromSaved = (id, raw) => ({ ...readSession(JSON.parse(raw), id), stamp: stampOf(raw) });

/** @param {string} text */
export const firstWords = (text) => head(head(text, 4 * FIRST_WORDS).replace(/\s+/g, " ").trim(), FIRST_WORDS).trimEnd();

/** @param {any} given @param {string} id @returns {Session} */
function readSession(given, id) {
  if (!isObject(given)) throw new Error(t("file.no_object"));
  const session = { ...newSession(), id };
  if (given.version === 1) {
    session.written = new WrittenText(readWritten(given));
    session.tree.commit(session.written.pieces);
  } else if (given.version === VERSION) {
    session.tree = BranchTree.fromList(given.nodes, given.current);
    const withText = given.pieces === undefined ? { ...given, pieces: session.tree.piecesOf(session.tree.current) } : given;
    session.written = new WrittenText(readWritten(withText));
    session.tree.follow(session.written.text);
  } else {
    const { version } = given;
    const said = ["number", "string"].includes(typeof version) ? JSON.stringify(version).slice(0, 20) : "";
    throw new Error(t("file.version", { given: said, version: VERSION }));
  }
  for (const { pieces: own } of session.tree.nodes.values()) {
    for (const [, run] of own) session.written.runs = Math.max(session.written.runs, run);
  }
  session.name = typeof given.name === "string" ? head(given.name, 200) : "";
  session.time = Number.isFinite(given.time) ? given.time : Date.now();
  session.controls = given.controls === undefined ? null : readControls(given.controls);
  session.scaffold = readScaffold(given.scaffold);
  session.memory = readMemory(given.memory);
  return session;
}

/** @param {any} given @returns {Session["scaffold"]} */
function readScaffold(given) {
  if (!isObject(given) || typeof given.text !== "string") return null;
  const [before, values] = [readControls(given.before), readControls(given.values)];
  return before && values && { text: given.text, before, values, turns: readTurns(given.turns) };
}

/** A selection, or `at` if the value is not a selection. @param {any} value @param {number} at @returns {Place} */
const readPlace = (value, at) =>
  Array.isArray(value) && value.length === 2 && value.every(isCount) ? [value[0], value[1]] : [at, at];

/** @param {any} given */
function readWritten(given) {
  const { steps = [], position = 0, runs = 0 } = given;
  const isStep = (/** @type {any} */ step) => isObject(step) && isCount(step.at);
  if (!Array.isArray(steps) || !steps.every(isStep)) throw new Error(t("file.steps"));
  if (!Number.isInteger(position) || position < 0 || position > steps.length) {
    throw new Error(t("file.position"));
  }
  if (!Number.isSafeInteger(runs) || runs < 0) throw new Error(t("file.runs"));
  const read = steps.map((step, i) => {
    const where = t("file.step", { number: i + 1 });
    const { kind, at, before, after, time } = step;
    return {
      kind: typeof kind === "string" ? kind.slice(0, 40) : "edit",
      at,
      removed: readPieces(step.removed, where),
      inserted: readPieces(step.inserted, where),
      before: readPlace(before, at),
      after: readPlace(after, at),
      time: Number.isFinite(time) ? time : 0,
    };
  });
  const text = readPieces(given.pieces, t("file.the_session"));
  const highest = text.reduce((most, [, run]) => Math.max(most, run), runs);
  return { pieces: text, steps: read, position, runs: highest };
}

// ---- files

/** A file's name, type and content. @param {Session} session @param {"json" | "markdown" | "text"} form */
export function toFile(session, form) {
  const name = session.name || firstWords(session.written.text) || t("branches.session");
  const file = head(name.replace(/[^\p{L}\p{M}\p{N} -]/gu, "").trim(), 40).trim().replace(/ /g, "-") || "session";
  if (form === "text") return { file: `${file}.txt`, type: "text/plain", content: session.written.text };
  if (form === "markdown") return { file: `${file}.md`, type: "text/markdown", content: toMarkdown(session, name) };
  const { time, tree, written, controls, memory } = session;
  const { current } = tree;
  const own = tree.find(written.text) === null ? { pieces: written.pieces } : {};
  const whole = { format: FORMAT, version: VERSION, name: session.name, time, controls: controls ?? undefined, memory: memory ?? undefined, current, nodes: tree.toList(), ...own };
  return { file: `${file}.json`, type: "application/json", content: JSON.stringify(whole) };
}

/** The session of an exported file, or of a file of another program (core/foreign_files.js); raises an error whose message is for people. @param {string} text */
export function fromFile(text) {
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    throw new Error(t("file.no_json"));
  }
  try {
    if (given?.format === FORMAT) return readSession(given, newId());
    const content = readForeign(given);
    if (content) return readSession({ ...content, version: VERSION }, newId());
  } catch (error) {
    throw new Error(t("file.unreadable", { why: /** @type {Error} */ (error).message }), { cause: error });
  }
  throw new Error(t("file.no_session"));
}

// The open text, then all branches as a list, each in a code fence longer than any in its words.
/** @param {Session} session @param {string} name */
function toMarkdown({ tree, written }, name) {
  const plain = (/** @type {string} */ text) => text.replace(/\s+/g, " ").replace(/[\\`*_{}[\]<>()#+!|~&-]/g, "\\$&");
  const lines = [`# ${plain(name)}`, "", fenced(written.text, ""), ""];
  if (tree.size) lines.push(`## ${t("branches.branches")}`, "");
  const depths = new Map();
  for (const node of tree.toList()) {
    const depth = (depths.get(node.parent) ?? -1) + 1;
    depths.set(node.id, depth);
    const indent = "  ".repeat(depth);
    const facts = [node.kind];
    if (node.starred) facts.push(t("branches.is_starred"));
    if (node.name) facts.push(t("text.quoted", { text: plain(node.name) }));
    const { run } = node;
    if (run?.model) facts.push(plain([run.model, run.revision, run.precision].filter(Boolean).join(" · ")));
    if (run?.seed !== undefined) facts.push(t("run.seed", { seed: String(run.seed) }));
    for (const [control, value] of Object.entries(run?.controls ?? {})) facts.push(plain(`${control} ${valueText(value)}`));
    if (run?.message) facts.push(plain(run.message));
    lines.push(`${indent}- ${facts.join(", ")}`, "", fenced(pieces.text(node.pieces), `${indent}  `), "");
  }
  return `${lines.join("\n").trimEnd()}\n`;
}

/** @param {string} text @param {string} indent */
function fenced(text, indent) {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return [`${fence}text`, ...text.split("\n"), fence].map((line) => indent + line).join("\n");
}

