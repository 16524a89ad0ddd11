// Making elements, always with text as text.

const SIGNS = { " ": "␣", "\n": "↵", "\t": "⇥" };

/** An element with a class name and a text. */
export function make(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** A button that calls `press`; `attributes` are title, aria-label and the like. */
export function makeButton(name, text, press = null, attributes = {}) {
  const button = make("button", name, text);
  button.type = "button";
  for (const [key, value] of Object.entries(attributes)) button.setAttribute(key, value);
  if (press) button.addEventListener("click", press);
  return button;
}

export const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** A token as text in which spaces, line ends and invisible characters are visible. */
export function visible(text) {
  const node = make("bdi", "token");
  for (const part of text.split(/([\s\p{C}])/u)) {
    if (!part) continue;
    const unseen = /^[\s\p{C}]$/u.test(part);
    node.appendChild(make("span", unseen ? "unseen" : "", unseen ? (SIGNS[part] ?? codePoint(part)) : part));
  }
  return node;
}

/** Set a text only where it differs: setting it lays the page out anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Let the browser save a file. */
export function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Show `to` in the place of `from`; the focus goes with it. */
export function swapButtons(from, to) {
  const focused = document.activeElement === from;
  to.hidden = false;
  if (focused) to.focus();
  from.hidden = true;
}

export const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
