// A batch: a template, the rows of a file, and what the model wrote for each row. Pure: no DOM, no network.

import { csvField } from "./csv.js";

/**
 * `written` is the row as it stands in the file, without its line end; a value is null where it cannot be put into a text.
 * @typedef {{written: string, values: (string | null)[]}} Row
 * @typedef {{name: string, form: "csv" | "jsonl", separator: string, header: string, columns: string[], rows: Row[],
 *            lineEnd: string, hasMark: boolean}} RowsFile
 * @typedef {{text: string, mean_logprob: number | null, completion_tokens: number, seed: number | null, reason: string, message: string}} Result
 * @typedef {{template: string, names: string[], controls: Controls, seed: number}} Asked the columns of the template are its `names`
 */

const ADDED = ["text", "mean_logprob", "completion_tokens", "seed", "reason", "message"];
const NOT_DONE = ["cancelled", "error"];
const VERSION = 1;

export class Batch {
  /** @param {RowsFile} file @param {Asked} asked */
  constructor(file, asked) {
    this.file = file;
    this.asked = asked;
    this.results = /** @type {(Result | null)[]} */ (file.rows.map(() => null));
    this.left = /** @type {number[]} */ ([]); // rows that the present run has still to send
    this.sent = new Set(/** @type {number[]} */ ([])); // rows that have no result yet
  }

  /** Begin a run: all rows that are not done. */
  begin() {
    this.sent.clear();
    this.left = this.file.rows.map((_, i) => i).filter((i) => !this.isDone(i));
  }

  /** @param {number} row */
  isDone(row) {
    const result = this.results[row];
    return result !== null && !NOT_DONE.includes(result.reason);
  }

  get done() {
    return this.results.filter((_, i) => this.isDone(i)).length;
  }

  get failed() {
    return this.results.filter((result) => result?.reason === "error").length;
  }

  get tokens() {
    return this.results.reduce((sum, result) => sum + (result?.completion_tokens ?? 0), 0);
  }

  /**
   * The next rows to send, with their values in the template's columns; the first row may exceed the limits of
   * characters, which are for all values and for all prompts.
   * @param {number} mostRows @param {number} mostInValues @param {number} mostInPrompts
   */
  next(mostRows, mostInValues, mostInPrompts) {
    const { columns, rows } = this.file;
    const { names, template } = this.asked;
    const places = names.map((name) => columns.indexOf(name));
    const uses = names.map((name) => countUses(template, name));
    /** @type {[number, (string | null)[]][]} */
    const part = [];
    let inValues = 0;
    let inPrompts = 0;
    while (this.left.length && part.length < mostRows) {
      const values = places.map((place) => rows[this.left[0]].values[place] ?? null);
      const lengths = values.map((value) => value?.length ?? 0);
      inValues += lengths.reduce((sum, length) => sum + length, 0);
      inPrompts += lengths.reduce((sum, length, i) => sum + length * uses[i], template.length);
      if (part.length && (inValues > mostInValues || inPrompts > mostInPrompts)) break;
      const row = /** @type {number} */ (this.left.shift());
      part.push([row, values]);
      this.sent.add(row);
    }
    return part;
  }

  /** Add the result of a row; a row that was cancelled before its first word gets none. @param {number} row @param {string} text @param {any} end */
  add(row, text, end) {
    if (!this.sent.delete(row)) return false;
    if (end.reason === "cancelled" && !text) return false;
    const { mean_logprob = null, completion_tokens = 0, seed = null, reason, message = "" } = end;
    this.results[row] = { text, mean_logprob, completion_tokens, seed, reason, message };
    return true;
  }

  /** Queue the rows again that were sent and will get no response. */
  putBack() {
    this.left = [...[...this.sent].sort((a, b) => a - b), ...this.left];
    this.sent.clear();
  }

  /** The first row without a text in a column of the template, by its number from 1; null if there is none. */
  get missing() {
    for (const name of this.asked.names) {
      const place = this.file.columns.indexOf(name);
      const row = this.file.rows.findIndex(({ values }) => typeof values[place] !== "string");
      if (row >= 0) return { row: row + 1, column: name };
    }
    return null;
  }

  /** Whether this is the batch for these settings and this file. @param {RowsFile | null} file @param {Pick<Asked, "template" | "controls">} asked */
  isFor(file, { template, controls }) {
    return file === this.file && template === this.asked.template && JSON.stringify(controls) === JSON.stringify(this.asked.controls);
  }

  // ---- as a file, and in the browser's storage

  /** The file with the results as further columns. */
  toFile() {
    const { form, separator, header, columns, rows, lineEnd, hasMark } = this.file;
    const names = addedNames(columns);
    const lines = rows.map(({ written }, i) => {
      const result = /** @type {any} */ (this.results[i] ?? {});
      const values = ADDED.map((name) => result[name] ?? null);
      return form === "csv" ? [written, ...values.map(csvField)].join(separator) : withFields(written, names, values);
    });
    if (form === "csv") lines.unshift([header, ...names].join(separator));
    return (hasMark ? "\ufeff" : "") + lines.map((line) => line + lineEnd).join("");
  }

  /** The name of that file. */
  get fileName() {
    const [, stem, extension] = /^(.*?)(\.[^.]*)?$/s.exec(this.file.name) ?? [];
    return `${stem || "rows"}-results${extension || (this.file.form === "csv" ? ".csv" : ".jsonl")}`;
  }

  toKept() {
    return { version: VERSION, asked: this.asked, results: this.results };
  }

  /** The batch that was kept for a file; null if it does not fit the file. @param {RowsFile} file @param {any} kept */
  static fromKept(file, kept) {
    const isSound =
      kept?.version === VERSION && typeof kept.asked?.template === "string" && Array.isArray(kept.asked.names) && kept.results?.length === file.rows.length;
    return isSound ? Object.assign(new Batch(file, kept.asked), { results: kept.results }) : null;
  }
}

/** How often a placeholder is in a template, or more often: escaped braces count as well. @param {string} template @param {string} name */
const countUses = (template, name) => [...template.matchAll(/\{([^{}]*)\}/g)].filter(([, inside]) => inside.trim() === name).length;

/** Names for the added columns that differ from those of the file. @param {string[]} columns */
export function addedNames(columns) {
  return ADDED.map((name) => {
    let free = name;
    for (let i = 1; columns.includes(free); i += 1) free = `generated_${name}${i > 1 ? `_${i}` : ""}`;
    return free;
  });
}

/** An object as it is written, with further fields. @param {string} written @param {string[]} names @param {any[]} values */
function withFields(written, names, values) {
  const fields = names.map((name, i) => `${JSON.stringify(name)}: ${JSON.stringify(values[i])}`).join(", ");
  const open = written.slice(0, -1).trimEnd();
  return `${open}${open === "{" ? "" : ", "}${fields}}`;
}

/** Seconds until the end, estimated from the mean time of the rows that are done; null while that is too uncertain. @param {number} done @param {number} left @param {number} seconds */
export const secondsLeft = (done, left, seconds) => (done >= 3 && seconds >= 2 ? (left * seconds) / done : null);

/** A text as a template: all braces are escaped except those of placeholders. @param {string} text @param {RegExp} placeholder */
export function asTemplate(text, placeholder) {
  const escape = (/** @type {string} */ part) => part.replace(/[{}]/g, "$&$&");
  let template = "";
  let end = 0;
  for (const found of text.matchAll(placeholder)) {
    template += escape(text.slice(end, found.index)) + found[0];
    end = found.index + found[0].length;
  }
  return template + escape(text.slice(end));
}
