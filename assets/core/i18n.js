// The page's texts in the visitor's language, from the server's catalogue (gptj_demo/texts.py defines the
// syntax). boot.js has chosen the language.

import { withKeyNames } from "./keys.js";

/** @typedef {{code: string, values: Record<string, any>, message?: string}} ServerMessage a message of the server: its text key, values and English sentence */
/** @typedef {string | Record<string, string>} Entry a text, or its plural forms */

const PLACEHOLDER = /\{\{|\}\}|\{(\w+)\}/g;
const ATTRIBUTES = ["title", "aria-label", "placeholder"];
// A value keeps its own direction; a message has the page's, also if its first word is Latin.
const [ISOLATE, RIGHT_TO_LEFT_ISOLATE, END_OF_ISOLATE] = ["\u2068", "\u2067", "\u2069"];

export const language = globalThis.window?.gptj?.language ?? "en";
export const locale = language === "ar" ? "ar-u-nu-latn" : language; // the digits of the input fields

/** @type {Record<string, Entry>} */
const texts = await load(language);
const isRightToLeft = texts["language.direction"] === "rtl";
const plurals = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(locale, { maximumFractionDigits: 10 });

/** All texts of a language. @param {string} name @returns {Promise<Record<string, Entry>>} */
export async function load(name) {
  const address = new URL(`../texts/${name}.json`, import.meta.url);
  if (address.protocol !== "file:") return JSON.parse(withKeyNames(await (await fetch(address)).text()));
  // @ts-expect-error for tests that run the modules in node
  const { readFile } = await import("node:fs/promises");
  return JSON.parse(withKeyNames(await readFile(address, "utf8")));
}

/** @param {string} key @param {Record<string, any>} values @returns {string} */
function template(key, values) {
  const entry = texts[key];
  if (entry === undefined) throw new Error(`There is no text ${key}.`);
  return typeof entry === "string" ? entry : entry[plurals.select(Number(values.count))];
}

/** @param {any} value a text, a number, or a message of its own @returns {string} */
function written(value) {
  if (typeof value === "number") return numbers.format(value);
  const isMessage = typeof value === "object";
  const text = isMessage ? messageText(value) : String(value);
  return isRightToLeft ? (isMessage ? RIGHT_TO_LEFT_ISOLATE : ISOLATE) + text + END_OF_ISOLATE : text;
}

/** The text of a key; whole numbers are grouped, so a seed is passed as a string. @param {string} key @param {Record<string, any>} [values] @returns {string} */
export const t = (key, values = {}) =>
  template(key, values).replace(PLACEHOLDER, (found, name) => (name ? written(values[name]) : found[0]));

/** The same with elements among the values: what `append` takes. @param {string} key @param {Record<string, any>} values */
export function nodes(key, values) {
  /** @type {(string | Node)[]} */
  const parts = [];
  const text = template(key, values);
  let end = 0;
  for (const found of text.matchAll(PLACEHOLDER)) {
    const value = values[found[1]];
    parts.push(text.slice(end, found.index), found[1] ? (value instanceof Node ? value : written(value)) : found[0][0]);
    end = found.index + found[0].length;
  }
  return [...parts, text.slice(end)];
}

/** The sentence of a server's message. @param {ServerMessage} message @returns {string} */
export const messageText = ({ code, values, message }) => (Object.hasOwn(texts, code) ? t(code, values) : (message ?? code));

/** A server's answer, or a record of a log, with its messages in the visitor's language. @template {any} T @param {T} answer @returns {T} */
export function translated(answer) {
  const record = /** @type {any} */ (answer);
  if (typeof record?.code === "string" && "message" in record) record.message = messageText(record);
  if (Array.isArray(record?.cells)) for (const { end } of record.cells) translated(end);
  return answer;
}

/** Put the texts into markup that names them: `data-text`, `data-text-title`, ...; `data-html` has markup of ours. @param {ParentNode} root */
export function translate(root) {
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-text]"))) {
    node.textContent = t(node.dataset.text ?? "");
  }
  for (const node of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-html]"))) {
    node.innerHTML = t(node.dataset.html ?? ""); // eslint-disable-line no-restricted-properties -- no value is in it
  }
  for (const name of ATTRIBUTES) {
    for (const node of root.querySelectorAll(`[data-text-${name}]`)) {
      node.setAttribute(name, t(node.getAttribute(`data-text-${name}`) ?? ""));
    }
  }
}

/** A value of a control as it is typed, on one line. @param {any} value */
export const valueText = (value) =>
  value === true ? t("text.on") : value === false ? t("text.off") : String(value).replaceAll("\n", " ⏎ ");

/** The name of a control, or of the presets, which can be compared like one. @param {string} name */
export const labelOf = (name) => {
  const key = name === "preset" ? "panel.preset" : `control.${name}.label`;
  return Object.hasOwn(texts, key) ? t(key) : name;
};

/** @param {string} name */
export const helpOf = (name) => t(name === "preset" ? "panel.presets_help" : `control.${name}.help`);
