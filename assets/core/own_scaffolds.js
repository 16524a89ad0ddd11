// A visitor's own scaffolds: texts with {placeholders}, which become the fields of a form. Kept in the browser.

import { head } from "./characters.js";
import * as storage from "./storage.js";

/** @typedef {{name: string, text: string}} OwnScaffold */

const STORAGE = "gptj-playground/scaffolds";
const VERSION = 1;
export const PLACEHOLDER = /\{([\p{L}\p{N}_][\p{L}\p{M}\p{N}_ -]{0,39})\}/gu;
const MOST_SCAFFOLDS = 50;
export const LONGEST_NAME = 60;
const LONGEST_TEXT = 20_000; // characters

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

/** Returns whether the browser keeps them. @param {OwnScaffold[]} scaffolds */
const keep = (scaffolds) => storage.write(STORAGE, JSON.stringify({ version: VERSION, scaffolds }));

/** Save a text under a name, and replace the scaffold of that name. Returns whether the browser keeps it. @param {string} name @param {string} text */
export const saveScaffold = (name, text) =>
  keep([...loadScaffolds().filter((one) => one.name !== name), { name: head(name, LONGEST_NAME), text: head(text, LONGEST_TEXT) }].slice(-MOST_SCAFFOLDS));

/** @param {string} name */
export const deleteScaffold = (name) => keep(loadScaffolds().filter((one) => one.name !== name));
