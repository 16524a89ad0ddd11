// A visitor's own scaffolds: texts with {placeholders}, which become the fields of a form. Kept in the browser.

import { t } from "./i18n.js";
import * as storage from "./storage.js";

/** @typedef {{name: string, text: string}} OwnScaffold */

const STORAGE = "gptj-playground/scaffolds";
const VERSION = 1;
export const PLACEHOLDER = /\{([\p{L}\p{N}_][\p{L}\p{M}\p{N}_ -]{0,39})\}/gu;
export const MOST_SCAFFOLDS = 50;
export const LONGEST_NAME = 60;
export const LONGEST_TEXT = 20_000; // characters

/** The names between braces, each once, in their order. @param {string} text */
export const placeholdersOf = (text) => [...new Set([...text.matchAll(PLACEHOLDER)].map(([, name]) => name))];

/** Replaces each placeholder of a text by its value. A placeholder inside a value stays as it is. @param {string} text @param {Record<string, any>} values */
export const fillOwn = (text, values) =>
  text.replace(PLACEHOLDER, (whole, name) => (Object.hasOwn(values, name) ? String(values[name]).replace(/\r\n?/g, "\n").trim() : whole));

/** The valid scaffolds in stored data. @param {any} kept @returns {OwnScaffold[]} */
export function readScaffolds(kept) {
  if (kept?.version !== VERSION || !Array.isArray(kept.scaffolds)) return [];
  const isSound = (/** @type {any} */ one) =>
    typeof one?.name === "string" && one.name.trim() && one.name.length <= LONGEST_NAME && typeof one.text === "string" && one.text.length <= LONGEST_TEXT;
  return kept.scaffolds.filter(isSound).slice(0, MOST_SCAFFOLDS).map((/** @type {OwnScaffold} */ { name, text }) => ({ name, text }));
}

export const loadScaffolds = () => readScaffolds(storage.readJSON(STORAGE));

/** @param {OwnScaffold[]} scaffolds */
function keep(scaffolds) {
  if (!storage.write(STORAGE, JSON.stringify({ version: VERSION, scaffolds }))) throw new Error(t("beginnings.own_not_kept"));
}

/**
 * Save a text under a name of at most `LONGEST_NAME`, and replace the scaffold of that name. Raises an error whose message is for
 * people; the stored scaffolds then stay as they are.
 * @param {string} name @param {string} text
 */
export function saveScaffold(name, text) {
  const others = loadScaffolds().filter((one) => one.name !== name);
  if (text.length > LONGEST_TEXT) throw new Error(t("beginnings.own_too_long", { characters: text.length, most: LONGEST_TEXT }));
  if (others.length >= MOST_SCAFFOLDS) throw new Error(t("beginnings.own_too_many", { most: MOST_SCAFFOLDS }));
  keep([...others, { name, text }]);
}

/** Raises an error whose message is for people. @param {string} name */
export const deleteScaffold = (name) => keep(loadScaffolds().filter((one) => one.name !== name));
