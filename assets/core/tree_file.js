// Reads nodes and pieces from untrusted data, or throws an error that says what is wrong.

import { t } from "./i18n.js";
import { pieces } from "./text.js";

export const WRITTEN = new Set(["write", "edit"]); // kinds of nodes whose words are the person's
const KINDS = new Set([...WRITTEN, "generate", "retry", "alternative"]);

/** @param {any} value */
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
export const isCount = (/** @type {any} */ value) => Number.isSafeInteger(value) && value >= 0;
const isFinite = (/** @type {any} */ value) => typeof value === "number" && Number.isFinite(value);

// The textarea has only \n as line end; the length of a text must not change.
const cleanText = (/** @type {string} */ text) => text.replace(/\r/g, "\n");

/** @param {any} given @param {string} where @returns {Piece[]} */
export function readPieces(given, where) {
  if (!Array.isArray(given)) throw new Error(t("file.text_no_list", { where }));
  return pieces.join(
    given.map((piece) => {
      if (!Array.isArray(piece) || typeof piece[0] !== "string" || !isCount(piece[1])) {
        throw new Error(t("file.text_piece", { where }));
      }
      return [cleanText(piece[0]), piece[1]];
    }),
  );
}

/** @param {any} given @param {string} where @returns {TreeNode} */
export function readNode(given, where) {
  if (!isObject(given)) throw new Error(t("file.where_no_object", { where }));
  const { id, parent, at, kind, name = "", starred = false, time = 0, run = null } = given;
  const wrong = (/** @type {string} */ what) => new Error(t("file.has", { where, what }));
  if (typeof id !== "string" || !id || id.length > 64) throw wrong(t("file.no_id"));
  if (typeof parent !== "string") throw wrong(t("file.no_parent"));
  if (!isCount(at)) throw wrong(t("file.at"));
  if (!KINDS.has(kind)) throw wrong(t("file.kind", { kinds: [...KINDS].join(", ") }));
  if (typeof name !== "string" || name.length > 200) throw wrong(t("file.name"));
  if (typeof starred !== "boolean") throw wrong(t("file.starred"));
  if (!isFinite(time)) throw wrong(t("file.time"));
  return { id, parent, at, pieces: readPieces(given.pieces, where), kind, name, starred, time, run: readRun(run, where) };
}

/** @type {Record<string, (value: any) => boolean>} */
const RUN = {
  prompt_length: isCount,
  seed: isCount,
  model: isText,
  revision: isText,
  precision: isText,
  reason: isText,
  message: isText,
  tokens: isCount,
  mean_logprob: isFinite,
};

/** @param {any} value */
function isText(value) {
  return typeof value === "string" && value.length <= 1000;
}

/** @param {any} given @param {string} where @returns {NodeRun | null} */
function readRun(given, where) {
  if (given === null) return null;
  if (!isObject(given)) throw new Error(t("file.run_no_object", { where }));
  const run = /** @type {any} */ ({});
  for (const [name, isSound] of Object.entries(RUN)) {
    if (!Object.hasOwn(given, name) || given[name] === null) continue;
    if (!isSound(given[name])) throw new Error(t("file.run_wrong", { where, name }));
    run[name] = given[name];
  }
  if (run.prompt_length === undefined) throw new Error(t("file.run_no_length", { where }));
  const controls = readControls(given.controls);
  if (!controls) throw new Error(t("file.run_control", { where }));
  run.controls = controls;
  return run;
}

/** Values of controls, null if one is not sound. Unknown controls are dropped on use: another version may have them. @param {any} given @returns {Controls | null} */
export function readControls(given) {
  const read = /** @type {Controls} */ ({});
  for (const [name, value] of Object.entries(isObject(given) ? given : {})) {
    const isSound = ["string", "number", "boolean"].includes(typeof value) && /^[a-z_]{1,40}$/.test(name);
    if (!isSound || name.startsWith("__")) return null;
    read[name] = value;
  }
  return read;
}
