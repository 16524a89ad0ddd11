// Memory and note of the session: a panel above the sheet, and both in grey where the model reads them.

import { find, isEscape, setText, update } from "../../components/dom.js";
import { on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { MOST_LINES, MOST_MEMORY, MOST_NOTE, USUAL_LINES, placeOfNote, readMemory, textOfMemory } from "../../core/memory.js";
import { sessions } from "../../core/sessions.js";

const COUNT_PAUSE_MS = 250;
const GAP_PX = 4; // between two lines
const LABEL_GAP_PX = 12; // between the letters of a line and the note's label
const LEAST_LABEL_PX = 60;

export class MemoryPanel {
  /**
   * `count(text)` asks the server for a text's tokens, `changed()` is called after the memory or its tokens changed.
   * @param {ParentNode} root @param {import("./sheet.js").Sheet} sheet
   * @param {{count: (text: string) => Promise<any>, changed: () => void}} editor
   */
  constructor(root, sheet, { count, changed }) {
    this.panel = /** @type {HTMLDetailsElement} */ (find(root, "details.memory"));
    this.sheet = sheet;
    this.count = count;
    this.changed = changed;
    this.tokens = 0; // of memory and note
    this.timer = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    this.memory = find(this.panel, '[name="memory"]', HTMLTextAreaElement);
    this.note = find(this.panel, '[name="note"]', HTMLTextAreaElement);
    this.lines = find(this.panel, '[name="lines"]', HTMLSelectElement);
    this.mark = find(root, ".note-mark");
    this.memory.maxLength = MOST_MEMORY;
    this.note.maxLength = MOST_NOTE;
    for (let lines = 1; lines <= MOST_LINES; lines++) this.lines.add(new Option(t("remember.lines", { count: lines }), String(lines)));
    for (const field of [this.memory, this.note, this.lines]) field.addEventListener("input", () => this.keep());
    // the editor's keys must not act on the text from here
    this.panel.addEventListener("keydown", (event) => {
      if (isEscape(event)) this.close();
      if (!(event.ctrlKey || event.metaKey)) event.stopPropagation(); // Escape must not stop the model too
    });
    find(root, '[data-action="memory"]').addEventListener("click", () => this.open()); // only the menu's on narrow pages
    find(this.panel, '[data-action="close-memory"]').addEventListener("click", () => this.close());
    new ResizeObserver(() => this.place()).observe(sheet.ink);
    on("session", () => this.load());
    on("written", () => this.place());
    on("memory", (given) => {
      sessions.current.memory = readMemory(given);
      sessions.scheduleSave();
      this.load();
    });
    this.load();
  }

  open() {
    this.panel.hidden = false;
    this.panel.open = true;
    this.memory.focus();
  }

  close() {
    this.panel.open = false;
    this.panel.hidden = !sessions.current.memory;
    this.sheet.focus();
  }

  load() {
    const memory = sessions.current.memory ?? { text: "", note: "", lines: USUAL_LINES };
    this.memory.value = memory.text;
    this.note.value = memory.note;
    this.lines.value = String(memory.lines);
    this.panel.hidden = !sessions.current.memory;
    if (this.panel.hidden) this.panel.open = false;
    this.show();
  }

  keep() {
    const { memory, note, lines } = this;
    sessions.current.memory = readMemory({ text: memory.value, note: note.value, lines: Number(lines.value) });
    sessions.scheduleSave();
    this.show();
  }

  show() {
    const { memory } = sessions.current;
    setText(find(this.panel, ".memory-text"), memory?.text.trim() ?? "");
    this.place();
    clearTimeout(this.timer);
    if (memory) this.timer = setTimeout(() => this.countTokens(textOfMemory(memory)), COUNT_PAUSE_MS);
    else this.setTokens(0);
  }

  /** @param {string} text */
  async countTokens(text) {
    const answer = await this.count(text).catch(() => null); // the next change asks again
    const { memory } = sessions.current;
    if (answer && memory && textOfMemory(memory) === text) this.setTokens(answer.tokens ?? 0);
  }

  /** @param {number} tokens */
  setTokens(tokens) {
    setText(find(this.panel, ".memory-size"), tokens ? t("count.tokens", { count: tokens }) : "");
    if (tokens === this.tokens) return;
    this.tokens = tokens;
    this.changed();
  }

  /** Put the note's mark where it is read: above a line of the text. */
  place() {
    const { memory } = sessions.current;
    const note = memory?.note.trim() ?? "";
    update(this.mark, { hidden: !note });
    if (!memory || !note) return;
    const text = this.sheet.area.value;
    const at = placeOfNote(text, memory.lines);
    const place = this.sheet.placeOf(at + 1);
    const page = this.sheet.ink.getBoundingClientRect();
    const style = getComputedStyle(this.sheet.ink);
    const top = place?.height ? place.top - page.top : Number.parseFloat(style.paddingTop);
    this.mark.style.top = `${Math.max(0, top - GAP_PX)}px`;
    const [first, last] = [page.left + Number.parseFloat(style.paddingLeft), page.right - Number.parseFloat(style.paddingRight)];
    const line = at > 1 ? this.sheet.edgesOf([text.lastIndexOf("\n", at - 2) + 1, at - 1]) : null;
    const [before, behind] = line ? [line.left - first, last - line.right] : [0, last - first];
    this.writeLabel(note, Math.max(before, behind) - LABEL_GAP_PX, before > behind);
  }

  /** Write the note into the empty part of a line: at its left or its right end. @param {string} note @param {number} width @param {boolean} isLeft */
  writeLabel(note, width, isLeft) {
    const label = find(this.mark, "span");
    setText(label, note);
    label.hidden = width < LEAST_LABEL_PX; // the panel has the note too
    const { paddingLeft, paddingRight } = getComputedStyle(this.sheet.ink);
    Object.assign(label.style, { maxWidth: `${width}px`, left: isLeft ? paddingLeft : "auto", right: isLeft ? "auto" : paddingRight });
  }
}
