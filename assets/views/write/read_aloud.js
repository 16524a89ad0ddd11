// Reads the text aloud with the browser's own speech, sentence by sentence; the sentence is highlighted.

import { find, isEscape } from "../../components/dom.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { spokenPart } from "../../core/sentences.js";

const LATIN = /\p{Script=Latin}/u;

export class ReadAloud {
  /**
   * `isGrowing()`: whether the model writes.
   * @param {HTMLElement} root
   * @param {{area: HTMLTextAreaElement, rangesOf: (places: Place[]) => Range[]}} sheet
   * @param {() => boolean} isGrowing
   */
  constructor(root, sheet, isGrowing) {
    this.sheet = sheet;
    this.isGrowing = isGrowing;
    this.line = find(root, ".reading");
    this.button = find(root, '[data-file="aloud"]');
    this.at = 0; // where the next sentence is looked for
    this.until = Infinity;
    this.part = /** @type {Place | null} */ (null); // the sentence that is spoken
    this.read = ""; // the text up to its end
    this.isReading = false;
    this.button.hidden = !globalThis.speechSynthesis;
    find(this.line, "button").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      if (isEscape(event) && this.isReading && !this.isGrowing()) this.stop();
    });
    addEventListener("pagehide", () => this.stop());
    on("session", () => this.stop());
    on("written", () => this.follow());
    on("record", () => this.follow());
  }

  /** Read the selected words, or what follows the caret, or the whole text where nothing follows it. */
  start() {
    const { selectionStart: from, selectionEnd: to, value } = this.sheet.area;
    const hasRest = value.slice(from).trim() !== "";
    this.at = hasRest ? from : 0;
    this.until = from < to ? to : Infinity;
    if (!value.trim()) return emit("notice", t("aloud.nothing"));
    this.isReading = true;
    this.next();
  }

  stop() {
    if (!this.isReading) return;
    this.isReading = false;
    this.part = null;
    speechSynthesis.cancel();
    this.show();
  }

  // Speak the next sentence. While the model writes, wait until the last sentence is complete.
  next() {
    if (!this.isReading) return;
    const isGrowing = this.isGrowing() && this.until === Infinity;
    const text = this.sheet.area.value.slice(0, this.until);
    this.part = spokenPart(text, this.at, isGrowing);
    if (this.part) this.speak(text, this.part);
    else if (!isGrowing) this.stop();
    this.show();
  }

  /** @param {string} text @param {Place} part */
  speak(text, [from, to]) {
    this.at = to;
    this.read = text.slice(0, to);
    const words = text.slice(from, to);
    const utterance = new SpeechSynthesisUtterance(words);
    if (LATIN.test(words)) utterance.lang = "en"; // else the page's language; the model writes mostly English
    const { part } = this;
    utterance.onend = () => this.part === part && this.next();
    utterance.onerror = ({ error }) => {
      if (this.part !== part) return; // it was stopped
      this.stop();
      emit("notice", t("aloud.failed", { why: error }));
    };
    speechSynthesis.speak(utterance);
  }

  // The text has changed. Reading continues if the text that was read is unchanged.
  follow() {
    if (!this.isReading) return;
    if (!this.sheet.area.value.startsWith(this.read)) return this.stop();
    if (this.part) this.show();
    else this.next();
  }

  show() {
    this.line.hidden = !this.isReading;
    this.button.textContent = t(this.isReading ? "aloud.stop" : "aloud.start");
    if (!globalThis.Highlight) return;
    CSS.highlights.delete("spoken");
    if (this.part) CSS.highlights.set("spoken", new Highlight(...this.sheet.rangesOf([this.part])));
  }
}
