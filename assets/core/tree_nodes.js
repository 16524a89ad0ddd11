// The nodes of a tree of texts: by id, by parent, and by the length of their full text.
//
// A node: {id, parent, at, pieces, kind, name, starred, time, run}. Its full text is the first `at`
// characters of its parent's, then its own `pieces` (core/text.js). `kind` is its origin; `run` has the
// request and its end, for nodes of the model.

import { pieces } from "./text.js";

const ROOT = "root"; // the empty text

/** How many of the first characters of `own` are in `text` from `at` on. @param {string} own @param {string} text @param {number} at */
function sameStart(own, text, at) {
  let length = 0;
  while (length < own.length && own[length] === text[at + length]) length += 1;
  return length;
}

export class TreeNodes {
  constructor() {
    this.nodes = /** @type {Map<string, TreeNode>} */ (new Map());
    this.children = /** @type {Map<string, string[]>} */ (new Map()); // ids of children, oldest first
    this.byLength = /** @type {Map<number, Set<string>>} */ (new Map()); // ids by the length of the full text
    this.root = this.add({ id: ROOT, parent: "", at: 0, pieces: [], kind: "root" });
  }

  get size() {
    return this.nodes.size - 1;
  }

  /** @param {string | null} id */
  node(id) {
    return this.nodes.get(id ?? "") ?? null;
  }

  /** The node of an id that exists. @param {string} id */
  get(id) {
    return /** @type {TreeNode} */ (this.nodes.get(id));
  }

  /** @param {string} id */
  childrenOf(id) {
    return this.children.get(id) ?? [];
  }

  /** @param {TreeNode} node */
  lengthOf({ at, pieces: own }) {
    return at + pieces.length(own);
  }

  /** The first `upTo` characters of the full text, as pieces. @param {string} id */
  piecesOf(id, upTo = Infinity) {
    const parts = [];
    for (let node = this.nodes.get(id); node; node = this.nodes.get(node.parent)) {
      if (upTo > node.at) parts.push(pieces.slice(node.pieces, 0, upTo - node.at));
      upTo = Math.min(upTo, node.at);
    }
    return pieces.join(...parts.reverse());
  }

  /** @param {string} id */
  textOf(id, upTo = Infinity) {
    return pieces.text(this.piecesOf(id, upTo));
  }

  /** The UTF-16 unit of the full text before a position. @param {string} id @param {number} at */
  unitBefore(id, at) {
    let node = this.get(id);
    while (at > 0 && at <= node.at) node = this.get(node.parent);
    return pieces.text(pieces.slice(node.pieces, at - 1 - node.at, at - node.at));
  }

  /**
   * How many of the first characters of a node's full text are those of `text`. `known` keeps the answers for one
   * `text` by id, so that nodes with common ancestors compare these once.
   * @param {string} id @param {string} text @param {Map<string, number>} known
   */
  commonWith(id, text, known) {
    const path = [];
    for (let node = this.nodes.get(id); node && !known.has(node.id); node = this.nodes.get(node.parent)) path.push(node);
    for (const { id: each, parent, at, pieces: own } of path.reverse()) {
      const kept = Math.min(at, known.get(parent) ?? 0);
      known.set(each, kept < at ? kept : at + sameStart(pieces.text(own), text, at));
    }
    return known.get(id) ?? 0;
  }

  /** @param {string} id @param {string} ancestor */
  isBelow(id, ancestor) {
    for (let node = this.nodes.get(id); node; node = this.nodes.get(node.parent)) {
      if (node.id === ancestor) return true;
    }
    return false;
  }

  /** A node and all below it, parents before their children. @param {string} id */
  listFrom(id) {
    const list = [];
    const waiting = [id];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      list.push(this.get(next));
      waiting.push(...this.childrenOf(next).toReversed());
    }
    return list;
  }

  toList() {
    return this.listFrom(ROOT).slice(1);
  }

  // ---- changing

  /** @param {Pick<TreeNode, "id" | "parent" | "at" | "pieces" | "kind"> & Partial<TreeNode>} node */
  add({ id, parent, at, pieces: own, kind, name = "", starred = false, time = Date.now(), run = null }) {
    return this.put({ id, parent, at, pieces: own, kind, name, starred, time, run });
  }

  /** @param {TreeNode} node */
  put(node) {
    this.nodes.set(node.id, node);
    if (node.parent) {
      const siblings = this.children.get(node.parent) ?? [];
      siblings.push(node.id);
      this.children.set(node.parent, siblings);
    }
    this.index(node);
    return node;
  }

  /** @param {TreeNode} node */
  remove(node) {
    this.unindex(node);
    this.nodes.delete(node.id);
    const order = this.children.get(node.parent);
    if (order) order.splice(order.indexOf(node.id), 1);
  }

  /** @param {TreeNode} node */
  index(node) {
    const length = this.lengthOf(node);
    this.byLength.set(length, (this.byLength.get(length) ?? new Set()).add(node.id));
  }

  /** @param {TreeNode} node */
  unindex(node) {
    this.byLength.get(this.lengthOf(node))?.delete(node.id);
  }
}
