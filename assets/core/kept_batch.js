// Keeps the last batch in the tab's session storage, so that it continues with its results after a reload.

import { Batch } from "./batch.js";
import { readJSON, remove, write } from "./storage.js";

const FILE = "gptj-playground/batch-file"; // stored separately, because it does not change
const RUN = "gptj-playground/batch";

/** @typedef {{isActive: boolean, tries: number}} Progress whether it runs, and how often its present part was sent */

/** @param {string} key @param {any} value */
const keep = (key, value) => write(key, JSON.stringify(value), "sessionStorage");

/** @param {import("./batch.js").RowsFile} file */
export function keepFile(file) {
  remove(RUN, "sessionStorage");
  if (!keep(FILE, file)) remove(FILE, "sessionStorage");
}

/** Keep a batch's results so far; `keepFile` comes first. If the storage is full, keep only that there was a batch. @param {Batch} batch @param {Progress} progress */
export function keepBatch(batch, progress) {
  if (keep(RUN, { ...batch.toKept(), ...progress })) return;
  remove(FILE, "sessionStorage");
  keep(RUN, { isTooLarge: true });
}

/** The batch before the reload; `isGone` if there was one that could not be kept. @returns {{batch: Batch | null, isGone: boolean} & Progress} */
export function restoreBatch() {
  const [file, kept] = [FILE, RUN].map((key) => readJSON(key, "sessionStorage"));
  const { isActive = false, tries = 0 } = kept ?? {};
  const batch = kept && Array.isArray(file?.rows) ? Batch.fromKept(file, kept) : null;
  return { batch, isGone: Boolean(kept) && !batch, isActive, tries };
}
