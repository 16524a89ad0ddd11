// Turns a filled-in form into the beginning of a document for a base model to continue. Pure: no DOM, no
// network. `scaffold` is an entry of scaffolds.json, `values` are texts by field name.

import { t } from "./i18n.js";
import { readTurns } from "./turns.js";

/**
 * The text, suitable values of the controls, the labels of a dialogue's speakers, and a message that describes them.
 * @param {{fields: {name: string, kind?: string}[], text: string, key: string, controls: Controls, turns?: import("./turns.js").Turns}} scaffold
 * @param {Record<string, any>} values
 */
export function fillScaffold(scaffold, values) {
  const words = /** @type {Record<string, string>} */ ({});
  for (const { name, kind } of scaffold.fields) {
    const lines = String(values[name] ?? "").replace(/\r\n?/g, "\n").trim();
    if (kind === "pairs") {
      words[name] = pairs(lines);
    } else if (kind === "columns") {
      const columns = lines.split(",").map((column) => column.replace(/[\s|]+/g, " ").trim());
      words[name] = columns.join(" | ");
      words[`${name}_rule`] = columns.map(() => "---").join(" | ");
    } else {
      words[name] = lines.replace(/\s+/g, " ");
    }
  }
  const put = (/** @type {string} */ template) => template.replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(words, name) ? words[name] : whole));
  const stop = scaffold.controls.stop.map((/** @type {string} */ text) => put(text).replaceAll("\n", "\\n")).join("\n");
  const turns = scaffold.turns && readTurns(scaffold.turns.map(put));
  return { text: put(scaffold.text), controls: { ...scaffold.controls, stop }, turns, done: t(`scaffold.${scaffold.key}.done`, words) };
}

/** Lines "this => that" as Input and Output; a line without an arrow is left out. @param {string} lines */
function pairs(lines) {
  return lines
    .split("\n")
    .filter((line) => line.includes("=>"))
    .map((line) => {
      const [input, ...output] = line.split("=>");
      return `Input: ${input.trim()}\nOutput: ${output.join("=>").trim()}`;
    })
    .join("\n\n");
}
