// The texts of a session as a tree: every generation and every edit between two generations is a node.
// Nodes are never lost. No DOM.

import { commonStart } from "./characters.js";
import { t } from "./i18n.js";
import { newId } from "./id.js";
import { pieces } from "./text.js";
import { WRITTEN, readNode } from "./tree_file.js";
import { TreeNodes } from "./tree_nodes.js";

const MOST = 20_000; // nodes read from a file

/** The node, with the whole surrogate pair if it begins within one. @param {TreeNode} node @param {TreeNodes} tree */
function wholeCharacters(node, tree) {
  const [first, ...others] = node.pieces;
  if (!first || !/^[\udc00-\udfff]/.test(first[0])) return node;
  const [half] = /[\ud800-\udbff]/.exec(tree.unitBefore(node.parent, node.at)) ?? [];
  if (!half) return node;
  return { ...node, at: node.at - 1, pieces: /** @type {Piece[]} */ ([[half + first[0], first[1]], ...others]) };
}

export class BranchTree extends TreeNodes {
  constructor() {
    super();
    /** @type {{nodes: TreeNode[], current: string, place: number}[]} pruned nodes, latest last */
    this.pruned = [];
    this.growing = /** @type {TreeNode[]} */ ([]); // the nodes being generated, one a completion
    /** @type {{parent: string, at: number, given: Piece[], end: number, kind: string, run: number, facts: any, rest: Piece[]} | null} */
    this.turn = null;
    this.current = this.root.id; // the node in the editor, or the one that its text is based on
  }

  // ---- following the editor

  /** The node whose full text this is: the current one first, then the latest. @param {string} text */
  find(text) {
    const ids = [...(this.byLength.get(text.length) ?? [])];
    if (ids.includes(this.current)) ids.push(this.current);
    const known = new Map();
    return ids.reverse().find((id) => this.commonWith(id, text, known) === text.length) ?? null;
  }

  /** Make the node with this text the current one. Returns whether there is such a node. @param {string} text */
  follow(text) {
    const found = this.find(text);
    if (found !== null) this.current = found;
    return found !== null;
  }

  /**
   * Make a node of the editor's text if it has none. Returns its position in the tree: the first `at`
   * characters of `parent`. A text whose end was cut off does not become a node.
   * @param {Piece[]} list
   */
  commit(list) {
    const text = pieces.text(list);
    if (this.follow(text)) return { parent: this.get(this.current), at: text.length };
    const { parent, at } = this.place(text);
    if (at === text.length) return { parent, at };
    const own = pieces.slice(list, at, Infinity);
    if (this.goesOn(parent, at)) {
      this.unindex(parent);
      parent.pieces = pieces.join(parent.pieces, own);
      parent.time = Date.now();
      this.index(parent);
      this.current = parent.id;
      return { parent, at: text.length };
    }
    const kind = at < this.lengthOf(parent) ? "edit" : "write";
    const node = this.add({ id: newId(), parent: parent.id, at, pieces: own, kind });
    this.current = node.id;
    return { parent: node, at: text.length };
  }

  /** Whether words at `at` extend a node: a person's, without children, name and star. @param {TreeNode} node @param {number} at */
  goesOn(node, at) {
    const isOpen = WRITTEN.has(node.kind) && !node.starred && !node.name && !this.childrenOf(node.id).length;
    return isOpen && at === this.lengthOf(node);
  }

  /**
   * The parent of a text based on the current node: the deepest node with own words in the text, and how much
   * of that node's full text it keeps.
   * @param {string} text
   */
  place(text) {
    let node = this.get(this.current);
    let at = commonStart(this.textOf(node.id), text);
    const up = () => (node = this.get(node.parent));
    while (node.id !== this.root.id && at <= node.at) up();
    const left = at - node.at;
    const all = pieces.length(node.pieces);
    // if less than half of a person's words are left, they count as replaced
    if (at < text.length && WRITTEN.has(node.kind) && 2 * left < all) {
      at = node.at;
      up();
    }
    return { parent: node, at };
  }

  // ---- the model's turn

  /**
   * Begin a node for the next words. `prompt` is the model's prompt; the node's own text begins at `at`, which
   * is the prompt's end, or before a chosen alternative at its end. `rest` follows the words.
   * @param {{prompt: Piece[], at?: number, kind: string, run: number, facts?: any, rest?: Piece[]}} request
   */
  begin({ prompt, at, kind, run, facts = {}, rest = [] }) {
    const end = pieces.length(prompt);
    const place = this.commit(pieces.slice(prompt, 0, at ?? end));
    const given = pieces.slice(prompt, place.at, Infinity);
    this.turn = { parent: place.parent.id, at: place.at, given, end, kind, run, facts, rest };
    this.growing = [];
    this.expect(1);
    this.current = this.growing[0].id;
  }

  /** Make nodes for `n` completions. @param {number} n */
  expect(n) {
    if (!this.turn) return;
    const { parent, at, given, end, kind, facts } = this.turn;
    while (this.growing.length < n) {
      const run = { prompt_length: end, ...facts };
      this.growing.push(this.add({ id: newId(), parent, at, pieces: given, kind, run }));
    }
  }

  /** @param {number} index @param {string} text */
  grow(index, text) {
    const node = this.growing[index];
    if (!node || !text || !this.turn) return;
    this.unindex(node);
    node.pieces = pieces.join(node.pieces, [[text, this.turn.run]]);
    this.index(node);
  }

  /** Remove the last characters of a completion. @param {number} index @param {number} length */
  shorten(index, length) {
    const node = this.growing[index];
    if (!node) return;
    this.unindex(node);
    node.pieces = pieces.slice(node.pieces, 0, pieces.length(node.pieces) - length);
    this.index(node);
  }

  /** @param {number} index @param {Partial<NodeRun>} how */
  finish(index, how) {
    Object.assign(this.growing[index]?.run ?? {}, how);
  }

  /** End the request, and remove the nodes of completions without words. @param {Partial<NodeRun>} [how] */
  end(how = {}) {
    for (const node of this.growing) {
      if (this.lengthOf(node) === node.run?.prompt_length) {
        this.remove(node);
        if (this.current === node.id) this.current = node.parent;
      } else {
        node.run = Object.assign({ ...how }, node.run);
        if (!this.turn?.rest.length) continue;
        this.unindex(node);
        node.pieces = pieces.join(node.pieces, this.turn.rest);
        this.index(node);
      }
    }
    this.growing = [];
  }

  /** @param {string} id */
  isGrowing(id) {
    return this.growing.some((node) => node.id === id);
  }

  // ---- changing

  /** @param {string} id */
  star(id, starred = !this.get(id).starred) {
    this.get(id).starred = starred;
  }

  /** @param {string} id @param {string} name */
  rename(id, name) {
    this.get(id).name = name;
  }

  /** Remove a node and all below it; `restore` puts them back. Returns how many were removed. @param {string} id */
  prune(id) {
    const first = this.get(id);
    const nodes = this.listFrom(id);
    this.pruned.push({ nodes, current: this.current, place: this.childrenOf(first.parent).indexOf(id) });
    if (this.isBelow(this.current, id)) this.current = first.parent;
    for (const node of nodes) this.remove(node);
    return nodes.length;
  }

  /**
   * Restore what was pruned last, or together with this node. Returns its first node; null if there is none
   * or its parent was pruned later.
   * @param {string | undefined} [id]
   */
  restore(id = this.pruned.at(-1)?.nodes[0].id) {
    const last = this.pruned.find(({ nodes }) => nodes[0].id === id);
    if (!last || !this.nodes.has(last.nodes[0].parent)) return null;
    this.pruned.splice(this.pruned.indexOf(last), 1);
    for (const node of last.nodes) this.put(node);
    const [first] = last.nodes;
    const order = this.childrenOf(first.parent);
    order.splice(last.place, 0, ...order.splice(-1));
    if (this.current === first.parent && this.nodes.has(last.current)) this.current = last.current;
    return first;
  }

  // ---- keeping

  /** A tree from an untrusted list. Raises an error that says what is wrong with it. @param {any} list @param {any} [current] */
  static fromList(list, current) {
    const tree = new BranchTree();
    if (!Array.isArray(list)) throw new Error(t("file.no_nodes"));
    if (list.length > MOST) {
      throw new Error(t("file.many_nodes", { count: list.length, most: MOST }));
    }
    list.forEach((given, i) => {
      const node = readNode(given, t("file.node", { number: i + 1 }));
      if (tree.nodes.has(node.id)) throw new Error(t("file.same_id", { number: i + 1 }));
      const parent = tree.nodes.get(node.parent); // parents come first, so there are no cycles
      if (!parent) throw new Error(t("file.parent", { number: i + 1 }));
      if (node.at > tree.lengthOf(parent)) throw new Error(t("file.keeps", { number: i + 1 }));
      tree.put(wholeCharacters(node, tree));
    });
    if (typeof current === "string" && tree.nodes.has(current)) tree.current = current;
    return tree;
  }
}
