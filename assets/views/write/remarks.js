// The line under the text with remarks and their buttons: a scaffold's changes, and a loop in the text.

import { find, makeButton, setText } from "../../components/dom.js";
import { shorten } from "../../core/characters.js";
import { t } from "../../core/i18n.js";
import { LOOP_TAIL, findLoop } from "../../core/loops.js";
import { useControls, state } from "../../core/state.js";
import { PERSON } from "../../core/text.js";

const LOOK_MS = 400;
const DRY_USUAL = 0.8; // see the control's help
const DRY_MOST = 5;
const QUOTE_MOST = 60; // characters of the repeated text that are shown

export class Remarks {
  /**
   * `written()` returns the text, `isRunning()` whether a request runs; `stop()` ends it, `generate(at)` cuts
   * the text and continues, `focus()` restores the caret, `say(text)` is for screen readers.
   * @param {HTMLElement} root
   * @param {{written: () => import("../../core/text.js").WrittenText, isRunning: () => boolean, stop: () => void,
   *          generate: (at: number) => void, focus: () => void, say: (text: string) => void}} editor
   */
  constructor(root, editor) {
    this.line = find(root, ".aside");
    this.editor = editor;
    /** @type {{kind: string, text: string | null, isRunning: boolean} | null} the text that it applies to, null while that grows */
    this.shown = null;
    this.actions = /** @type {Map<string, () => void>} */ (new Map());
    this.lastLook = -Infinity;
    this.nextLook = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
    this.ignoredRun = -1; // the run whose loop was dismissed
    this.cutsWhenStopped = false;
  }

  /** @param {string} kind @param {string} message @param {[string, () => void][]} actions */
  show(kind, message, actions) {
    this.line.hidden = false;
    setText(find(this.line, "p"), message);
    this.showActions(actions);
    if (this.shown?.kind !== kind) this.editor.say(message);
    const text = kind === "cut" ? null : this.editor.written().text;
    this.shown = { kind, text, isRunning: this.editor.isRunning() };
  }

  // A button that stays is the same element: a press that has begun on it counts, and it keeps the focus.
  /** @param {[string, () => void][]} actions */
  showActions(actions) {
    this.actions = new Map(actions);
    const box = find(this.line, ".remark-actions");
    actions.forEach(([name], i) => {
      if (box.children[i]?.textContent === name) return;
      box.insertBefore(makeButton("link", name, () => this.actions.get(name)?.()), box.children[i] ?? null);
    });
    while (box.children.length > actions.length) box.lastElementChild?.remove();
  }

  hide() {
    if (this.line.contains(document.activeElement)) this.editor.focus();
    this.line.hidden = true;
    this.shown = null;
  }

  dismiss() {
    if (this.shown?.kind === "loop") this.ignoredRun = this.editor.written().runs;
    this.hide();
  }

  /** The text has changed, by hand or by steps. */
  textChanged() {
    if (!this.shown || this.editor.isRunning()) return;
    const { kind, text } = this.shown;
    if (kind === "loop" ? !this.loopAtEnd() : text !== null && text !== this.editor.written().text) this.hide();
  }

  /** The model has ended. */
  runEnded() {
    const cuts = this.cutsWhenStopped;
    this.cutsWhenStopped = false;
    if (this.shown?.kind === "cut") this.shown.text = this.editor.written().text;
    if (cuts) this.cutBack();
    else this.lookForLoop({ now: true });
  }

  // The loop in the model's words at the end of the text, with positions in the text.
  loopAtEnd() {
    const { text, pieces } = this.editor.written();
    let length = 0;
    for (let i = pieces.length - 1; i >= 0 && pieces[i][1] !== PERSON; i -= 1) {
      length += pieces[i][0].length;
      if (length >= LOOP_TAIL) break;
    }
    const from = text.length - Math.min(length, LOOP_TAIL);
    const loop = findLoop(text.slice(from));
    return loop && { ...loop, start: from + loop.start, cut: from + loop.cut };
  }

  lookForLoop({ now = false } = {}) {
    const written = this.editor.written();
    clearTimeout(this.nextLook);
    if (this.ignoredRun === written.runs) return;
    const wait = this.lastLook + LOOK_MS - performance.now();
    if (!now && wait > 0) {
      // these may be the last words for a while
      this.nextLook = setTimeout(() => this.editor.isRunning() && this.lookForLoop(), wait);
      return;
    }
    this.lastLook = performance.now();
    const loop = this.loopAtEnd();
    const isRunning = this.editor.isRunning();
    if (!loop || (this.shown?.kind === "loop" && this.shown.isRunning === isRunning)) return;
    const words = written.text.slice(loop.cut - loop.period, loop.cut).replace(/\s+/g, " ").trim();
    /** @type {[string, () => void][]} */
    const actions = [[t("loop.cut"), () => this.cutBack()]];
    if (isRunning) actions.push([t("loop.stop"), () => this.editor.stop()]); // last, so that the other one never moves
    this.show("loop", t("loop.repeats", { words: shorten(words, QUOTE_MOST) }), actions);
  }

  // Cut after the first repetition and continue from there with a raised control against repetition. Cut
  // and new words are one step. A running request is stopped first.
  async cutBack() {
    if (this.editor.isRunning()) {
      this.cutsWhenStopped = true;
      this.editor.stop();
      return;
    }
    const loop = this.loopAtEnd();
    if (!loop) return this.hide();
    const before = Number(state.controls.dry_multiplier) || 0;
    const raised = Math.min(DRY_MOST, before < DRY_USUAL ? DRY_USUAL : 2 * before);
    const { text } = this.editor.written();
    await useControls({ dry_multiplier: raised });
    if (this.editor.isRunning() || this.editor.written().text !== text) return;
    this.editor.generate(loop.cut);
    const key = raised <= before ? "loop.was_cut_at_most" : before ? "loop.was_cut" : "loop.was_cut_from_off";
    this.show("cut", t(key, { before, raised }), []);
  }
}
