// Computes the rows of the outline. An only child is on the next row; several children are one level further
// in, each at the head of its own run. The inner nodes of a long run share one row.

const LEAST_FOLDED = 3;

/**
 * @typedef {{node?: TreeNode, fold?: TreeNode[]}} Entry a node, or nodes that are one row
 * @typedef {Entry & {level: number, lines: boolean[], joint: "elbow" | "tee" | null, up: boolean, down: boolean,
 *                    isOpen?: boolean, hidden?: number}} Row
 *   `lines` are the columns in which lines of outer branchings continue; `isOpen` is set if the node has
 *   branches, and `hidden` is the number of hidden nodes below it
 */

/**
 * @param {import("../../core/tree.js").BranchTree} tree
 * @param {{closed: Set<string>, unfolded: Set<string>, chosen: string | null}} view `closed`: ids of branchings
 *   whose branches are hidden; `unfolded`: ids of the first node of a run that is shown whole
 * @returns {Row[]}
 */
export function layOut(tree, { closed, unfolded, chosen }) {
  const rows = /** @type {Row[]} */ ([]);
  const waiting = /** @type {{id: string, level: number, lines: boolean[], isLast: boolean}[]} */ ([]);
  const branch = (/** @type {string[]} */ ids, /** @type {number} */ level, /** @type {boolean[]} */ lines) => {
    ids.toReversed().forEach((id, i) => waiting.push({ id, level, lines, isLast: i === 0 }));
  };
  const keep = (/** @type {TreeNode} */ { id, starred, name }) => starred || name || id === chosen || id === tree.current;
  branch(tree.childrenOf(tree.root.id), 0, []);
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { id, level, lines, isLast } = next;
    const run = [tree.get(id)];
    for (let below = tree.childrenOf(id); below.length === 1; below = tree.childrenOf(below[0])) run.push(tree.get(below[0]));
    const after = level ? [...lines, !isLast] : lines;
    fold(run, keep, unfolded).forEach((entry, i, all) => {
      const joint = i === 0 && level ? (isLast ? "elbow" : "tee") : null;
      rows.push({ ...entry, level, lines: i === 0 ? lines : after, joint, up: i > 0, down: i < all.length - 1 });
    });
    const last = rows[rows.length - 1];
    const end = run[run.length - 1].id;
    const children = tree.childrenOf(end);
    if (!children.length) continue;
    last.isOpen = last.down = !closed.has(end);
    if (last.isOpen) branch(children, level + 1, after);
    else last.hidden = tree.listFrom(end).length - 1;
  }
  return rows;
}

/** @param {TreeNode[]} run @param {(node: TreeNode) => unknown} keep @param {Set<string>} unfolded @returns {Entry[]} */
function fold(run, keep, unfolded) {
  const entries = /** @type {Entry[]} */ ([]);
  let folded = /** @type {TreeNode[]} */ ([]);
  const flush = () => {
    if (folded.length >= LEAST_FOLDED && !unfolded.has(folded[0].id)) entries.push({ fold: folded });
    else entries.push(...folded.map((node) => ({ node })));
    folded = [];
  };
  run.forEach((node, i) => {
    if (i > 0 && i < run.length - 1 && !keep(node)) folded.push(node);
    else {
      flush();
      entries.push({ node });
    }
  });
  flush();
  return entries;
}
