// What the model reads besides a session's text: a memory before all of it, and a note some lines above its end.
// The server puts them into the prompt (gptj_demo/client/memory.py). Pure: no DOM.

/** @typedef {{text: string, note: string, lines: number}} Memory */

export const MOST_MEMORY = 4000; // characters
export const MOST_NOTE = 1000;
export const MOST_LINES = 20;
export const USUAL_LINES = 3;

/** A memory from untrusted data; null where there is nothing in it. @param {any} given @returns {Memory | null} */
export function readMemory(given) {
  const text = typeof given?.text === "string" ? given.text.slice(0, MOST_MEMORY) : "";
  const note = typeof given?.note === "string" ? given.note.slice(0, MOST_NOTE) : "";
  if (!text.trim() && !note.trim()) return null;
  const lines = Number.isInteger(given.lines) ? Math.min(Math.max(given.lines, 1), MOST_LINES) : USUAL_LINES;
  return { text, note, lines };
}

/** The position in a text at which a note is read, `lines` lines above the end. @param {string} text @param {number} lines */
export function placeOfNote(text, lines) {
  const all = text.split("\n");
  return all.slice(0, Math.max(0, all.length - lines)).reduce((sum, line) => sum + line.length + 1, 0);
}

/** The memory and the note as the model reads them, to count their tokens. @param {Memory} memory */
export const textOfMemory = ({ text, note }) => [text, note].map((one) => one.trim()).filter(Boolean).map((one) => `${one}\n`).join("");
