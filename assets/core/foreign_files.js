// Converts files of mikupad, KoboldAI Lite and Loom to the content of a session file of this page, which
// session_file.js then checks. The files are untrusted: only texts, marks and the order of nodes are read, and no
// function recurses. Pure: no DOM.

import { head } from "./characters.js";
import { t } from "./i18n.js";
import { newId } from "./id.js";
import { MOST_LINES, MOST_MEMORY, MOST_NOTE, USUAL_LINES } from "./memory.js";
import { isObject } from "./tree_file.js";

/** @typedef {{id: string, parent: string, at: number, pieces: Piece[], kind: string, name: string, starred: boolean, time: number, run: NodeRun | null}} Node */
/** @typedef {{name: string, nodes: Node[], current: string, memory: {text: string, note: string, lines: number}}} Content */
/** @typedef {{given: any, parent: string, at: number}} Waiting a node to read, below a node of ours */

const ROOT = "root"; // the empty text of our trees
const LOOM_PARENTS = ["parent_id", "parentId", "parent"];
const NOTHING = { text: "", note: "", lines: USUAL_LINES };

/** A text with LF line ends, and U+FFFD for lone surrogates; "" if the value is not a string. @param {any} value */
const textOf = (value) => (typeof value === "string" ? value.replace(/\r\n?/g, "\n").replace(/\p{Surrogate}/gu, "\ufffd") : "");

/** A text of mikupad with its prefix and suffix, in which \\n stands for a new line; "" where the text is empty. @param {any} given */
function wrapped(given) {
  if (!textOf(given?.text).trim()) return "";
  const [prefix, suffix] = [given.prefix, given.suffix].map((value) => textOf(value).replaceAll("\\n", "\n"));
  return prefix + textOf(given.text) + suffix;
}

/** @param {string} text @param {string} note @param {any} [lines] */
const memoryOf = (text, note, lines) => ({
  text: head(text, MOST_MEMORY),
  note: head(note, MOST_NOTE),
  lines: Number.isInteger(lines) ? Math.min(Math.max(lines, 1), MOST_LINES) : USUAL_LINES,
});

/** Builds the list of nodes, parents first; each run of the model has a number of its own. */
class Nodes {
  constructor() {
    this.list = /** @type {Node[]} */ ([]);
    this.runs = 0;
  }

  /**
   * Add a text below a node that ends at `at`; returns the position after it. An empty text makes no node.
   * @param {string} parent @param {number} at @param {string} text @param {boolean} isModels @param {{name?: string, starred?: boolean}} [marks]
   */
  add(parent, at, text, isModels, { name = "", starred = false } = {}) {
    const end = at + text.length;
    if (!text) return { parent, at };
    if (isModels) this.runs += 1;
    const id = newId();
    const kind = isModels ? "generate" : "write";
    const run = isModels ? { prompt_length: at, controls: {} } : null;
    this.list.push({ id, parent, at, pieces: [[text, isModels ? this.runs : 0]], kind, name, starred, time: Date.now(), run });
    return { parent: id, at: end };
  }

  /** The end of the first branch. */
  firstLeaf() {
    let last = ROOT;
    for (const { id, parent } of this.list) if (parent === last) last = id;
    return last;
  }
}

/** @param {number} number */
const wrongText = (number) => new Error(t("file.story_text", { number }));

/**
 * A mikupad session: `prompt` is a list of pieces, those of type "user" are the person's.
 * Old versions store each value as JSON in a string.
 * @param {any} given @returns {Content | null}
 */
function readMikupad(given) {
  const value = (/** @type {string} */ key) => parsed(given[key]);
  const prompt = value("prompt");
  if (!Array.isArray(prompt) || !prompt.some((piece) => isObject(piece) && "content" in piece)) return null;
  const parts = /** @type {{isModels: boolean, texts: string[]}[]} */ ([]);
  prompt.forEach((piece, i) => {
    if (typeof piece?.content !== "string") throw wrongText(i + 1);
    const isModels = piece.type !== "user";
    const last = parts.at(-1);
    if (last?.isModels === isModels) last.texts.push(piece.content);
    else parts.push({ isModels, texts: [piece.content] });
  });
  const nodes = new Nodes();
  let place = { parent: ROOT, at: 0 };
  for (const { isModels, texts } of parts) place = nodes.add(place.parent, place.at, textOf(texts.join("")), isModels);
  const memory = memoryOf(wrapped(value("memoryTokens")), wrapped(value("authorNoteTokens")), value("authorNoteDepth"));
  return { name: textOf(given.name), nodes: nodes.list, current: place.parent, memory };
}

/** A value, or what it holds as JSON. @param {any} value */
function parsed(value) {
  if (typeof value !== "string") return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/**
 * A story of KoboldAI Lite: `prompt` and the `actions` after it. The format does not say who wrote an action, so
 * all of them count as the person's.
 * @param {any} given @returns {Content | null}
 */
function readKobold(given) {
  if (typeof given.prompt !== "string" || !Array.isArray(given.actions)) return null;
  const nodes = new Nodes();
  let place = { parent: ROOT, at: 0 };
  [given.prompt, ...given.actions].forEach((text, i) => {
    if (typeof text !== "string") throw wrongText(i + 1);
    place = nodes.add(place.parent, place.at, textOf(text), false);
  });
  const [note, template] = [textOf(given.authorsnote), textOf(given.anotetemplate)];
  const whole = note.trim() && template.includes("<|>") ? template.split("<|>").join(note) : note;
  return { name: "", nodes: nodes.list, current: place.parent, memory: memoryOf(textOf(given.memory), whole) };
}

/**
 * A tree of Loom: nodes within nodes below `root`, or in a flat list or object that name their parents.
 * @param {any} given @returns {Content | null}
 */
function readLoom(given) {
  const root = isObject(given.root) ? given.root : given;
  const isNested = typeof root.text === "string" && Array.isArray(root.children);
  const flat = isNested ? null : flatNodes(given.nodes);
  if (!isNested && !flat) return null;
  const nodes = new Nodes();
  const chosen = [given.selected_node_id, given.current].find((id) => typeof id === "string");
  let current = "";
  let count = 0;
  const waiting = /** @type {Waiting[]} */ ((flat ? flat.below("").toReversed() : [root]).map((node) => ({ given: node, parent: ROOT, at: 0 })));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const node = next.given;
    count += 1;
    if (!isObject(node) || typeof node.text !== "string") throw wrongText(count);
    const isModels = node.meta?.source === "AI";
    const marks = { name: head(textOf(node.name), 200), starred: node.bookmark === true || node.bookmarked === true };
    const place = nodes.add(next.parent, next.at, textOf(node.text), isModels, marks);
    if (chosen !== undefined && node.id === chosen) current = place.parent;
    const below = flat ? flat.below(node.id) : (node.children ?? []);
    if (!Array.isArray(below)) throw new Error(t("file.story_children", { number: count }));
    for (const child of below.toReversed()) waiting.push({ given: child, ...place });
  }
  if (flat && count < flat.size) throw new Error(t("file.story_parents", { count: flat.size - count }));
  return { name: head(textOf(given.name), 200), nodes: nodes.list, current: current || nodes.firstLeaf(), memory: NOTHING };
}

/** Nodes by their parents' ids, those without a parent under ""; null where the value has no nodes with a text. @param {any} given */
function flatNodes(given) {
  const entries = Array.isArray(given) ? given.map((node) => [node?.id, node]) : Object.entries(isObject(given) ? given : {});
  if (!entries.length || !entries.some(([, node]) => isObject(node) && typeof node.text === "string")) return null;
  const byParent = /** @type {Map<any, any[]>} */ (new Map());
  const seen = new Set();
  entries.forEach(([id, node], i) => {
    if (!isObject(node)) throw wrongText(i + 1);
    if (typeof id !== "string" || !id || seen.has(id)) throw new Error(t("file.story_id", { number: i + 1 }));
    seen.add(id);
    const parent = LOOM_PARENTS.map((key) => node[key]).find((one) => one !== undefined && one !== null) ?? "";
    const siblings = byParent.get(parent) ?? [];
    siblings.push({ ...node, id });
    byParent.set(parent, siblings);
  });
  return { size: entries.length, below: (/** @type {any} */ id) => byParent.get(id) ?? [] };
}

/** The content of a session file, or null if no program is recognised. Raises an error with a message for people. @param {any} given */
export function readForeign(given) {
  if (!isObject(given)) return null;
  return readMikupad(given) ?? readKobold(given) ?? readLoom(given);
}
