// A comparison as a file: its cells with their settings, texts and figures.

import { toCSV } from "../../core/csv.js";
import { headingOf, wordsOf } from "./cells.js";

const FIGURES = ["reason", "message", "mean_logprob", "distinct_words", "prompt_tokens", "completion_tokens"];

/** @param {import("./cells.js").Grid} grid @param {import("./cells.js").GridCell[]} cells in order */
const described = (grid, cells) =>
  cells.map((cell) => ({
    heading: headingOf(grid, cell).map((pair) => pair.map(wordsOf)),
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

/** @param {import("./cells.js").Grid} grid @param {import("./cells.js").GridCell[]} inOrder */
export function toTable(grid, inOrder) {
  const cells = described(grid, inOrder);
  const settings = [...new Set(cells.flatMap((cell) => Object.keys(cell.settings)))];
  const isControl = (/** @type {import("./cells.js").Part} */ label) => typeof label === "object" && label.code.startsWith("control.");
  const labels = [...grid.rows, ...grid.columns].flatMap((heading) => heading.map(([label]) => label));
  const filled = [...new Set(labels.filter((label) => !isControl(label)).map(wordsOf))]; // a control has its column below
  const names = ["prompt", "text", ...FIGURES];
  const rows = cells.map((cell) => [
    ...filled.map((name) => cell.heading.find(([label]) => label === name)?.[1]),
    ...settings.map((name) => cell.settings[name]),
    ...names.map((name) => /** @type {any} */ (cell)[name]),
  ]);
  return toCSV([[...filled, ...settings, ...names], ...rows]);
}
