// Finds and makes elements; text is always inserted as text, never as markup.

import { t } from "../core/i18n.js";
import { isMac } from "../core/keys.js";

/** @type {Record<string, string>} */
const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };

/**
 * The element that a selector finds below `root`; it must exist and have this type.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root @param {string} selector @param {new () => T} [type] @returns {T}
 */
export function find(root, selector, type) {
  const node = root.querySelector(selector);
  if (!node || (type && !(node instanceof type))) throw new Error(`There is no ${selector} on the page.`);
  return /** @type {T} */ (node);
}

/**
 * `find` below a fixed element.
 * @param {ParentNode} root
 * @returns {<T extends Element = HTMLElement>(selector: string, type?: new () => T) => T}
 */
export const finder = (root) => (selector, type) => find(root, selector, type);

/**
 * An element with a class name and a text.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} [name] @param {string} [text] @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

/**
 * A button that calls `press` with itself; `attributes` are title, aria-label and so on.
 * @param {string} name @param {string} text @param {((button: HTMLButtonElement) => void) | null} [press]
 * @param {Record<string, string>} [attributes]
 */
export function makeButton(name, text, press = null, attributes = {}) {
  const button = make("button", name, text);
  button.type = "button";
  for (const [key, value] of Object.entries(attributes)) button.setAttribute(key, value);
  if (press) button.addEventListener("click", () => press(button));
  return button;
}

/** @param {string} character */
export const codePoint = (character) => `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A token as text in which spaces, line ends and invisible characters are visible. @param {string} text */
export function visible(text) {
  const node = make("bdi", "token");
  for (const part of text.split(/([\s\p{C}])/u)) {
    if (!part) continue;
    const unseen = /^[\s\p{C}]$/u.test(part);
    node.appendChild(make("span", unseen ? "unseen" : "", unseen ? (SIGNS[part] ?? codePoint(part)) : part));
  }
  return node;
}

/** What is shown for a text without words. */
export const noWords = () => make("i", "no-words", t("results.no_words"));

/**
 * Scroll an element into view if less of it is visible than a third of the window's height, and not all of it.
 * @param {HTMLElement} element
 */
export function bringIntoView(element) {
  const { top, bottom, height } = element.getBoundingClientRect();
  const seen = Math.min(bottom, innerHeight) - Math.max(top, 0);
  if (seen < Math.min(height, innerHeight / 3)) element.scrollIntoView({ block: height > innerHeight ? "start" : "nearest" });
}

/** Set a text only if it differs: setting it causes a new layout. @param {Element} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Set properties only if they differ: the browser recalculates styles even for an attribute that keeps its value.
 * @template {HTMLElement} T
 * @param {T} node @param {Partial<T>} values
 */
export function update(node, values) {
  for (const key of /** @type {(keyof T)[]} */ (Object.keys(values))) {
    const value = /** @type {T[keyof T]} */ (values[key]);
    if (node[key] !== value) node[key] = value;
  }
}

/** Let the browser save a file. @param {string} name @param {string} type @param {string} content */
export function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Show `to` in the place of `from`, and move the focus with it. @param {HTMLElement} from @param {HTMLElement} to */
export function swapButtons(from, to) {
  const focused = document.activeElement === from;
  to.hidden = false;
  if (focused) to.focus();
  from.hidden = true;
}

/**
 * Call the action that a pressed button below `root` names in its `data-` attribute, unless it is disabled.
 * @param {HTMLElement | Document} root @param {Record<string, (button: HTMLButtonElement) => void>} actions
 * @param {string} [attribute]
 */
export function onPress(root, actions, attribute = "action") {
  root.addEventListener("click", ({ target }) => {
    const pressed = target instanceof Element ? target.closest(`button[data-${attribute}]`) : null;
    if (pressed instanceof HTMLButtonElement && !pressed.disabled) actions[pressed.dataset[attribute] ?? ""]?.(pressed);
  });
}

/** Close a `<details>` on a click outside of it. @param {HTMLDetailsElement} details */
export function closeBeside(details) {
  document.addEventListener("click", ({ target }) => {
    if (details.open && target instanceof Node && target.isConnected && !details.contains(target)) details.open = false;
  });
}

/** Whether an input method gets the key: Enter confirms a candidate there, Escape drops it. @param {KeyboardEvent} event */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;

/** Whether a key is Escape, and not the one that drops a candidate of an input method. @param {KeyboardEvent} event */
export const isEscape = (event) => event.key === "Escape" && !isComposing(event);

/** Whether a key is Ctrl+Enter, on a Mac Command+Enter. @param {KeyboardEvent} event */
export const isRunKey = (event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && !isComposing(event);

/** Copy a text; returns whether that worked. @param {string} text @param {() => void} select selects it on the page, for connections that have no clipboard API */
export async function copyText(text, select) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    select();
    return document.execCommand("copy");
  }
}

/** Whether a modal dialog is open; it then gets all keys. */
export const isDialogOpen = () => document.querySelector("dialog[open]") !== null;

/** The arrow keys for forwards (or inwards) and backwards, swapped in right-to-left languages. @returns {[string, string]} */
export const inlineArrows = () => (document.documentElement.dir === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"]);

/** The Latin letter of a key; on layouts of other scripts, that of its position on the keyboard. @param {KeyboardEvent} event */
export function letterOf({ key, code }) {
  if (/^[a-z]$/i.test(key)) return key.toLowerCase();
  return /^Key[A-Z]$/.test(code) ? code.slice(3).toLowerCase() : "";
}

/** 1 if the keys mean redo, -1 for undo, else 0. @param {KeyboardEvent} event */
export function undoOrRedo(event) {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isComposing(event)) return 0;
  const letter = letterOf(event);
  return letter === "y" || (letter === "z" && event.shiftKey) ? 1 : letter === "z" ? -1 : 0;
}

/**
 * Replace characters of a field by an edit that the browser's Undo reverts, and give it the focus. A field that is
 * empty or hidden has nothing to restore and keeps the focus where it is.
 * @param {HTMLTextAreaElement} field @param {string} text
 */
export function typeInto(field, text, from = 0, to = field.value.length) {
  if (field.offsetParent && field.value) {
    field.focus({ preventScroll: true });
    field.setSelectionRange(from, to);
    if (document.execCommand(text ? "insertText" : "delete", false, text)) return;
  }
  field.setRangeText(text, from, to, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Whether the focus is in a field with a text of its own. @param {EventTarget | null} target */
export const isTextField = (target) =>
  target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && !["range", "checkbox", "radio", "button", "file"].includes(target.type));

/** Show the name of the run key for this operating system. @param {ParentNode} root */
export function showRunKey(root) {
  if (isMac) find(root, ".filled:not(.stop) kbd").textContent = "⌘⏎";
}

/** The field with the editor's text; the editor has other fields, for the memory and the note. */
export const editorsField = () => /** @type {HTMLTextAreaElement | null} */ (document.querySelector(".editor .page textarea"));
