// A comparison as a file: its cells with their settings, texts and figures.

import { toCSV } from "../../core/csv.js";
import { headingOf } from "./cells.js";

const FIGURES = ["reason", "message", "mean_logprob", "distinct_words", "prompt_tokens", "completion_tokens"];

/** @param {import("./cells.js").Grid} grid @param {import("./cells.js").GridCell[]} cells in order */
const described = (grid, cells) =>
  cells.map((cell) => ({
    heading: headingOf(grid, cell),
    prompt: grid.prompts[cell.prompt],
    text: cell.text,
    settings: cell.settings,
    ...Object.fromEntries(FIGURES.map((name) => [name, cell.end?.[name] ?? null])),
  }));

/** @param {import("./cells.js").Grid} grid @param {import("./cells.js").GridCell[]} cells @param {Model | null | undefined} model */
export function toJSON(grid, cells, model) {
  const about = model && { name: model.name, revision: model.revision, precision: model.precision };
  return JSON.stringify({ model: about, controls: grid.controls, cells: described(grid, cells) }, null, 2);
}

/** @param {import("./cells.js").Grid} grid @param {import("./cells.js").GridCell[]} inOrder @param {Set<string>} labels of controls */
export function toTable(grid, inOrder, labels) {
  const cells = described(grid, inOrder);
  const settings = [...new Set(cells.flatMap((cell) => Object.keys(cell.settings)))];
  const filled = [...new Set(cells.flatMap(({ heading }) => heading.map(([label]) => label)))].filter((label) => !labels.has(label));
  const names = ["prompt", "text", ...FIGURES];
  const rows = cells.map((cell) => [
    ...filled.map((name) => cell.heading.find(([label]) => label === name)?.[1]),
    ...settings.map((name) => cell.settings[name]),
    ...names.map((name) => /** @type {any} */ (cell)[name]),
  ]);
  return toCSV([[...filled, ...settings, ...names], ...rows]);
}
