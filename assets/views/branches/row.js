// One row of the outline: its lines and dot, the node's first words, and how it ended.

import { make, visible } from "../../components/dom.js";
import { boundaryBefore, head, tail } from "../../core/characters.js";
import { number, signed } from "../../core/format.js";
import { t } from "../../core/i18n.js";
import { PERSON, pieces } from "../../core/text.js";

export const ROW = 34; // pixels, as in branches.css
const SHOWN_CHARACTERS = 160;
const KEPT_CHARACTERS = 24;
const SVG = "http://www.w3.org/2000/svg";
/** @type {Record<string, string>} */
const ENDS = {
  length: t("branches.end_length"),
  stop: t("branches.end_stop"),
  cancelled: t("branches.end_cancelled"),
  error: t("branches.end_error"),
  filtered: t("branches.end_filtered"),
};

const oneLine = (/** @type {string} */ text) => text.replace(/\s+/g, " ");
const own = (/** @type {TreeNode} */ node) => pieces.text(node.pieces);

/** Words in the colours of their authors. @param {Piece[]} list */
export const words = (list) =>
  list.map(([text, author]) => make("span", author === PERSON ? "by-person" : "by-model", text));

/**
 * @param {import("./layout.js").Row} row @param {number} index
 * @param {{tree: import("../../core/tree.js").BranchTree, chosen: string | null, indent: number}} view
 */
export function drawRow(row, index, { tree, chosen, indent }) {
  const { node, fold = [], level, isOpen } = row;
  const line = make("div", node ? "tree-row" : "tree-row is-fold");
  line.id = `branch-row-${index}`;
  line.style.top = `${index * ROW}px`;
  line.setAttribute("role", "treeitem");
  line.setAttribute("aria-level", String(level + 1));
  if (isOpen !== undefined || !node) line.setAttribute("aria-expanded", String(Boolean(isOpen)));
  line.setAttribute("aria-selected", String(node?.id === chosen));
  line.append(drawLines(row, indent));
  if (!node) {
    const text = head(oneLine(fold.map(own).join("")), SHOWN_CHARACTERS);
    line.append(make("span", "words", `${t("count.steps", { count: fold.length })}${t("text.comma")}${text}`));
    return line;
  }
  if (node.starred) line.appendChild(make("span", "star", "★")).setAttribute("aria-label", t("branches.is_starred"));
  if (node.name) line.append(make("bdi", "name", node.name));
  line.append(beginning(node, tree));
  if (node.id === tree.current) line.append(make("span", "here", t("branches.here")));
  if (row.hidden) line.append(make("span", "hidden-count", `+${number(row.hidden)}`));
  const { run } = node;
  const end = tree.isGrowing(node.id) ? t("branches.writing") : run ? (ENDS[run.reason ?? ""] ?? run.reason ?? "") : "";
  const meta = [end, run?.tokens === undefined ? "" : number(run.tokens), run?.mean_logprob === undefined ? "" : signed(run.mean_logprob, 2)];
  const figures = line.appendChild(make("span", "meta"));
  for (const text of meta) figures.appendChild(make("span")).append(make("bdi", "", text));
  return line;
}

/** The first words of a node. If it begins within its parent, they follow the last words that it keeps. @param {TreeNode} node @param {import("../../core/tree.js").BranchTree} tree */
function beginning(node, tree) {
  const line = make("span", "words");
  const parent = tree.get(node.parent);
  if (node.at < tree.lengthOf(parent)) {
    const all = oneLine(tree.textOf(parent.id, node.at));
    const kept = all.length > KEPT_CHARACTERS ? tail(all, KEPT_CHARACTERS).replace(/^\S*\s/, "") : all;
    line.append(make("span", "kept", `…${kept}`));
  }
  const text = own(node);
  if (!text.trim()) {
    line.append(visible(text.slice(0, 20)));
    return line;
  }
  let isFirst = !line.firstChild;
  for (const [part, author] of pieces.slice(node.pieces, 0, boundaryBefore(text, SHOWN_CHARACTERS))) {
    const shown = oneLine(isFirst ? part.trimStart() : part);
    line.append(...words([[shown, author]]));
    isFirst = isFirst && !shown;
  }
  return line;
}

/** @param {import("./layout.js").Row} row @param {number} indent */
function drawLines({ node, level, lines, joint, up, down, isOpen }, indent) {
  const middle = ROW / 2;
  const x = (/** @type {number} */ column) => 9 + column * indent;
  const dot = x(level);
  let path = lines.map((goesOn, column) => (goesOn ? `M${x(column)} 0V${ROW}` : "")).join("");
  if (joint) {
    const from = x(level - 1);
    const bend = Math.min(6, indent / 2);
    path += `M${from} 0V${middle - bend}Q${from} ${middle} ${from + bend} ${middle}H${dot - 5}`;
    if (joint === "tee") path += `M${from} ${middle - bend}V${ROW}`;
  }
  if (up) path += `M${dot} 0V${middle - 5}`;
  if (down) path += `M${dot} ${middle + 5}V${ROW}`;
  const draw = (/** @type {string} */ tag, /** @type {Record<string, any>} */ attributes) => {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    return shape;
  };
  const svg = draw("svg", { width: dot + 11, height: ROW, "aria-hidden": "true" });
  svg.append(draw("path", { d: path, class: "line" }));
  if (!node) svg.append(draw("path", { d: `M${dot} ${middle - 6}V${middle + 6}`, class: "folded" }));
  else {
    const name = `${node.run ? "of-model" : "of-person"}${isOpen === false ? " is-closed" : ""}`;
    svg.append(draw("circle", { cx: dot, cy: middle, r: 4, class: name }));
  }
  return svg;
}
