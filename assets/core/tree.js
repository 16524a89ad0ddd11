// The texts of a session as a tree: every generation and all that was written between two of them is a
// node, and nothing that was a node is lost. Nothing in here touches the page.
//
// A node: {id, parent, at, pieces, kind, name, starred, time, run}. Its full text is the first `at`
// characters of its parent's, then its own `pieces` ([text, run], as in document.js). `kind` says how it
// came about; `run`, where the model wrote it, what it was asked and how it ended:
// {prompt_length, controls, seed, model, revision, precision, reason, message, tokens, mean_logprob}.

import { number } from "./format.js";
import { newId } from "./id.js";
import { pieces } from "./text.js";
import { WRITTEN, readNode } from "./tree_file.js";

const MOST = 20_000; // nodes that are read
const ROOT = "root"; // the empty page, from which all texts go out

/** How many characters two texts begin with in common; never half a character. @param {string} one @param {string} other */
function commonLength(one, other) {
  const end = Math.min(one.length, other.length);
  let at = 0;
  while (at < end && one[at] === other[at]) at += 1;
  return at > 0 && /[\ud800-\udbff]/.test(one[at - 1]) ? at - 1 : at;
}

export class BranchTree {
  constructor() {
    /** @type {Map<string, TreeNode>} */
    this.nodes = new Map();
    /** @type {Map<string, string[]>} ids of children, oldest first */
    this.children = new Map();
    /** @type {Map<number, Set<string>>} ids by the length of the full text */
    this.byLength = new Map();
    /** @type {{nodes: TreeNode[], current: string, place: number}[]} what was pruned, the latest last */
    this.pruned = [];
    /** @type {TreeNode[]} the nodes that the model writes now, one a completion */
    this.growing = [];
    /** @type {{parent: string, at: number, given: Piece[], end: number, kind: string, run: number, facts: any} | null} */
    this.turn = null;
    this.root = this.add({ id: ROOT, parent: "", at: 0, pieces: [], kind: "root" });
    this.current = ROOT; // the node in the editor, or the one that its text went out from
  }

  // ---- reading

  get size() {
    return this.nodes.size - 1;
  }

  /** @param {string | null} id */
  node(id) {
    return this.nodes.get(id ?? "") ?? null;
  }

  /** A node that is there. @param {string} id */
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

  /** Of the full text, the first `upTo` characters. @param {string} id */
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

  /** @param {string} id @param {string} ancestor */
  isBelow(id, ancestor) {
    for (let node = this.nodes.get(id); node; node = this.nodes.get(node.parent)) {
      if (node.id === ancestor) return true;
    }
    return false;
  }

  /** The node whose full text this is: the current one first, then the latest. @param {string} text */
  find(text) {
    const ids = [...(this.byLength.get(text.length) ?? [])];
    if (ids.includes(this.current)) ids.push(this.current);
    return ids.reverse().find((id) => this.textOf(id) === text) ?? null;
  }

  // ---- following the editor

  /** The current node becomes the one whose text this is, if any. Returns whether there is one. @param {string} text */
  follow(text) {
    const found = this.find(text);
    if (found !== null) this.current = found;
    return found !== null;
  }

  /**
   * Make a node of what stands in the editor, if it is none. Returns where this text stands in the tree:
   * the first `at` characters of `parent`. A text of which only the end was cut off becomes no node.
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

  /** Words added to a person's node that nothing hangs on make it longer. @param {TreeNode} node @param {number} at */
  goesOn(node, at) {
    const isOpen = WRITTEN.has(node.kind) && !node.starred && !node.name && !this.childrenOf(node.id).length;
    return isOpen && at === this.lengthOf(node);
  }

  /**
   * Where a text that goes out from the current node belongs: below the deepest node of which it keeps own
   * words, and how much of that node's full text it keeps.
   * @param {string} text
   */
  place(text) {
    let node = this.get(this.current);
    let at = commonLength(this.textOf(node.id), text);
    const up = () => (node = this.get(node.parent));
    while (node.id !== ROOT && at <= node.at) up();
    const left = at - node.at;
    const all = pieces.length(node.pieces);
    // words of a person of which little is left were replaced: that is another beginning
    if (at < text.length && WRITTEN.has(node.kind) && 2 * left < all) {
      at = node.at;
      up();
    }
    return { parent: node, at };
  }

  // ---- the model's turn

  /**
   * A node for the words to come. `prompt` is what the model reads; `at` where the node's own text begins:
   * the prompt's end, or before words of it that belong to the node (a chosen alternative).
   * @param {{prompt: Piece[], at?: number, kind: string, run: number, facts?: any}} request
   */
  begin({ prompt, at, kind, run, facts = {} }) {
    const end = pieces.length(prompt);
    const place = this.commit(pieces.slice(prompt, 0, at ?? end));
    const given = pieces.slice(prompt, place.at, Infinity);
    this.turn = { parent: place.parent.id, at: place.at, given, end, kind, run, facts };
    this.growing = [];
    this.expect(1);
    this.current = this.growing[0].id;
  }

  /** So many completions come. @param {number} n */
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

  /** @param {number} index @param {Partial<NodeRun>} how */
  finish(index, how) {
    Object.assign(this.growing[index]?.run ?? {}, how);
  }

  /** The request is over; completions of which not a word came are no nodes. @param {Partial<NodeRun>} [how] */
  end(how = {}) {
    for (const node of this.growing) {
      if (this.lengthOf(node) === node.run?.prompt_length) {
        this.remove(node);
        if (this.current === node.id) this.current = node.parent;
      } else {
        node.run = Object.assign({ ...how }, node.run);
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

  /** Take a node and all below it out; `restore` puts them back. Returns how many went. @param {string} id */
  prune(id) {
    const first = this.get(id);
    const nodes = this.listFrom(id);
    this.pruned.push({ nodes, current: this.current, place: this.childrenOf(first.parent).indexOf(id) });
    if (this.isBelow(this.current, id)) this.current = first.parent;
    for (const node of nodes) this.remove(node);
    return nodes.length;
  }

  /**
   * Put back what was pruned last, or with this node. Returns the first node of it; null where there is
   * none, or its parent was pruned after it.
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

  // ---- keeping

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

  /** A tree from a list that anybody may have written. Raises an error that says what is wrong with it. @param {any} list @param {any} [current] */
  static fromList(list, current) {
    const tree = new BranchTree();
    if (!Array.isArray(list)) throw new Error("it has no list of nodes");
    if (list.length > MOST) {
      throw new Error(`it has ${number(list.length)} nodes, and at most ${number(MOST)} are read`);
    }
    list.forEach((given, i) => {
      const node = readNode(given, `node ${i + 1}`);
      if (tree.nodes.has(node.id)) throw new Error(`node ${i + 1} has the id of another one`);
      const parent = tree.nodes.get(node.parent); // so there can be no circle
      if (!parent) throw new Error(`node ${i + 1} does not come after its parent`);
      if (node.at > tree.lengthOf(parent)) throw new Error(`node ${i + 1} keeps more of its parent than there is`);
      tree.put(node);
    });
    if (typeof current === "string" && tree.nodes.has(current)) tree.current = current;
    return tree;
  }
}
