// Editing: typing, input methods, undo and redo, and whole texts inserted by other modules. Every change is a
// step of core/text.js.

import { isTextField } from "../../components/dom.js";
import { commonStart } from "../../core/characters.js";
import { sessions } from "../../core/sessions.js";
import { PERSON, difference, pieces } from "../../core/text.js";

export class Writing {
  /**
   * `changed()` is called after every change of the text; while `isLocked()` the model writes.
   * @param {import("./sheet.js").Sheet} sheet @param {{changed: () => void, isLocked: () => boolean}} editor
   */
  constructor(sheet, editor) {
    this.sheet = sheet;
    this.editor = editor;
    this.written = sessions.current.written;
    this.latest = /** @type {{run: number, prompt: string, fills?: boolean} | null} */ (null); // the latest request
    /** @type {{pieces: Piece[], text: string} | null} the text before an input method began to compose */
    this.composition = null;
    this.waiting = /** @type {(() => void) | null} */ (null); // called when the composition has ended
    this.selectionBefore = /** @type {Place | null} */ (null); // before the present input
    this.listen();
  }

  /** Show the open session's text. */
  openSession() {
    this.written = sessions.current.written;
    this.latest = null;
    this.sheet.area.value = this.written.text;
  }

  listen() {
    const { area } = this.sheet;
    area.addEventListener("beforeinput", (event) => {
      if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
        event.preventDefault();
        this.walk(event.inputType === "historyUndo" ? "undo" : "redo");
      } else if (!this.composition) this.selectionBefore = this.sheet.selection;
    });
    area.addEventListener("input", (event) => {
      const { inputType } = /** @type {InputEvent} */ (event);
      if (this.composition) this.showComposition(this.composition);
      else this.readArea(inputType === "insertText" || inputType?.startsWith("deleteContent") ? "type" : "edit");
    });
    area.addEventListener("compositionstart", () => {
      this.composition = { pieces: this.written.pieces, text: this.written.text };
      this.sheet.showComposing(true);
    });
    area.addEventListener("compositionend", () => {
      if (this.composition) this.written.pieces = this.composition.pieces;
      this.composition = null;
      this.sheet.showComposing(false);
      this.readArea("edit");
      this.sheet.render(this.written.pieces);
      const waiting = this.waiting;
      this.waiting = null;
      waiting?.();
    });
  }

  /** Call `action` once no words are being composed. Returns whether it has to wait. @param {() => void} action */
  afterComposition(action) {
    if (this.composition) this.waiting = action;
    return this.composition !== null;
  }

  // The composed words may still change, so they are shown without a step.
  /** @param {{pieces: Piece[], text: string}} before */
  showComposition(before) {
    const { area } = this.sheet;
    const { at, removed, inserted } = difference(before.text, area.value, area.selectionEnd);
    this.written.pieces = pieces.splice(before.pieces, at, removed.length, inserted ? [[inserted, PERSON]] : []);
    this.sheet.render(this.written.pieces);
    this.sheet.showComposed(at, at + inserted.length);
  }

  /** @param {string} kind */
  readArea(kind) {
    const { area } = this.sheet;
    const caret = area.selectionEnd;
    const { at, removed, inserted } = difference(this.written.text, area.value, caret);
    if (!removed && !inserted) return;
    const before = this.selectionBefore ?? [at, at + removed.length];
    this.written.replace(kind, at, removed.length, inserted ? [[inserted, PERSON]] : [], before, [caret, caret]);
    this.editor.changed();
  }

  /** Returns whether there was a step. @param {"undo" | "redo"} direction */
  walk(direction) {
    if (this.editor.isLocked()) return false;
    const change = this.written[direction]();
    if (!change) return false;
    this.sheet.replace(change.at, pieces.length(change.removed), pieces.text(change.inserted));
    this.editor.changed();
    this.sheet.select(change.selection);
    return true;
  }

  /** Replace characters as one step, and put the caret at `caret`. @param {string} kind @param {number} at @param {number} length @param {Piece[]} inserted @param {number} caret */
  replace(kind, at, length, inserted, caret) {
    this.written.replace(kind, at, length, inserted, this.sheet.selection, [caret, caret]);
    this.sheet.replace(at, length, pieces.text(inserted));
  }

  /** Insert words of the person as one step. @param {number} at @param {string} text */
  insertAt(at, text) {
    this.replace("edit", at, 0, [[text, PERSON]], at + text.length);
    const focused = document.activeElement;
    if (isTextField(focused) && focused !== this.sheet.area) this.editor.changed(); // the person types there
    else this.settle(at + text.length);
  }

  /** Put the focus and the caret into the text after a change by another module. @param {number} caret */
  settle(caret) {
    this.editor.changed();
    this.sheet.focus();
    this.sheet.select([caret, caret]);
  }

  /**
   * Replace the text as one step. The model's words in it become the latest words. Returns whether there was
   * a change.
   * @param {string | {text: string, words: string}} given
   */
  replaceAll(given) {
    const { text: prompt, words } = typeof given === "string" ? { text: given, words: "" } : given;
    const text = prompt + words;
    if (this.editor.isLocked() || text === this.written.text) return false;
    if (words) this.latest = { run: (this.written.runs += 1), prompt };
    // unchanged text keeps its authors
    const kept = words && this.written.text.startsWith(prompt) ? prompt.length : 0;
    this.replace("edit", kept, this.written.text.length, [[prompt.slice(kept), PERSON], [words, this.written.runs]], text.length);
    this.settle(text.length);
    return true;
  }

  /** Replace the text by that of a node; the old text becomes a node first. @param {string} id */
  openNode(id) {
    const { tree } = sessions.current;
    tree.commit(this.written.pieces);
    const [before, after] = [this.written.text, tree.textOf(id)];
    const at = commonStart(before, after); // kept, so that the step is small
    if (before !== after) {
      const own = pieces.slice(tree.piecesOf(id), at, Infinity);
      this.replace("open", at, before.length - at, own, after.length);
    }
    tree.current = id;
    this.settle(after.length);
  }

  /** Replace the latest request's words by a completion. Returns whether they were still in the text. @param {string} text */
  take(text) {
    const { latest, written } = this;
    if (!latest) return false;
    const end = written.text.length;
    const place = written.placeOf(latest.run) ?? (written.text === latest.prompt && { from: end, to: end });
    if (!place) return false;
    this.replace("take", place.from, place.to - place.from, [[text, latest.run]], place.from + text.length);
    this.settle(place.from + text.length);
    return true;
  }

  /** The latest request's words if they are unchanged in the text, else null. */
  get latestWords() {
    const place = this.latest && this.written.placeOf(this.latest.run);
    return place ? this.written.text.slice(place.from, place.to) : null;
  }

  /** Whether the latest request's words are in the text and were chosen by how well they fit what follows. */
  get isFilledIn() {
    return Boolean(this.latest?.fills && this.written.placeOf(this.latest.run));
  }

  /** The words that the model wrote last, and the text before them. */
  get lastRun() {
    const { text, latestPlace: place } = this.written;
    return place
      ? { prompt: text.slice(0, place.from), continuation: text.slice(place.from, place.to) }
      : { prompt: text, continuation: "" };
  }
}
