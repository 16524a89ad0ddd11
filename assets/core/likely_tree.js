// The most probable continuations of a text, as a tree of tokens: what the server found, and which nodes are open.
// Pure: no DOM.

/**
 * @typedef {object} LikelyNode
 * @property {LikelyNode | null} parent null for the root, which has no token
 * @property {LikelyNode[]} children the most probable one first
 * @property {number} tokenId @property {string} token
 * @property {string} text of the whole continuation
 * @property {number} logprob after its parent @property {number} total of the whole continuation
 * @property {number} depth @property {boolean} ends whether the token ends the text
 */

const OPENED_LEAVES = 12; // the paths to so many of the most probable leaves are expanded at first

/** @param {Partial<LikelyNode>} [given] @returns {LikelyNode} */
const makeNode = (given = {}) => ({
  parent: null, children: [], tokenId: -1, token: "", text: "", logprob: 0, total: 0, depth: 0, ends: false, ...given,
});

export class LikelyTree {
  constructor() {
    this.root = makeNode();
    this.open = /** @type {Set<LikelyNode>} */ (new Set([this.root]));
    this.found = /** @type {Map<number, LikelyNode>} */ (new Map()); // by the server's ids, of the present growth
    this.below = this.root; // where the present growth began
  }

  /** All nodes but the root, parents first. @returns {LikelyNode[]} */
  get nodes() {
    const all = [...this.root.children];
    for (let i = 0; i < all.length; i++) all.push(...all[i].children);
    return all;
  }

  /** Begin to grow below a node; the new nodes replace those below it. @param {LikelyNode} node */
  begin(node) {
    this.below = node;
    this.found.clear();
    this.isFirst = true;
  }

  /** Add nodes of the present growth, parents first. @param {any[]} records */
  add(records) {
    if (this.isFirst && records.length) this.below.children = [];
    this.isFirst = false;
    for (const { id, parent, depth, token_id, token, text, logprob, sum_logprob, ends } of records) {
      const above = parent === null ? this.below : this.found.get(parent);
      if (!above) continue;
      const node = makeNode({
        parent: above, tokenId: token_id, token, text: this.below.text + text, logprob, ends,
        total: this.below.total + sum_logprob, depth: this.below.depth + depth,
      });
      above.children.push(node);
      this.found.set(id, node);
    }
  }

  /** Open the paths to the most probable leaves below a node. @param {LikelyNode} node */
  openBest(node) {
    const leaves = this.nodes.filter((one) => !one.children.length && pathOf(one).includes(node));
    leaves.sort((a, b) => b.total - a.total);
    for (const leaf of leaves.slice(0, OPENED_LEAVES)) for (const one of pathOf(leaf).slice(0, -1)) this.open.add(one);
    this.open.add(node);
  }

  /** The visible nodes, in their order on the page. @returns {LikelyNode[]} */
  get rows() {
    /** @type {LikelyNode[]} */
    const rows = [];
    const walk = (/** @type {LikelyNode} */ node) => {
      for (const child of node.children) {
        rows.push(child);
        if (this.open.has(child)) walk(child);
      }
    };
    walk(this.root);
    return rows;
  }

  /**
   * For 1, 2, 3 tokens, and so on: the probability of all continuations of that length that the tree has. One
   * that ended earlier counts at each later length. @returns {number[]}
   */
  get covered() {
    const { nodes } = this;
    const deepest = Math.max(0, ...nodes.map(({ depth }) => depth));
    const sums = new Array(deepest).fill(0);
    for (const { depth, ends, total } of nodes) {
      for (let at = depth; at <= (ends ? deepest : depth); at++) sums[at - 1] += Math.exp(total);
    }
    return sums;
  }
}

/** The nodes from the root to a node, both included. @param {LikelyNode} node @returns {LikelyNode[]} */
export function pathOf(node) {
  const path = [];
  for (let one = /** @type {LikelyNode | null} */ (node); one; one = one.parent) path.unshift(one);
  return path;
}
