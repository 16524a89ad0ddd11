// A text in coloured pieces, inspected one at a time with pointer or arrow keys.

import { find, make } from "../../components/dom.js";
import { shown } from "./words.js";

/** @typedef {{text: string, label: string, strength: number | null, chosen?: boolean}} RibbonPiece strength: -1 to 1, null: no colour */

export class Ribbon {
  /**
   * `look(index, line)` fills the line that describes a piece; `choose(index)` handles a press on it.
   * @param {HTMLElement} panel @param {string} name
   * @param {{look: (index: number, line: HTMLElement) => void, choose?: (index: number) => void}} options
   */
  constructor(panel, name, { look, choose = () => {} }) {
    this.box = find(panel, `[data-ribbon="${name}"]`);
    this.detail = find(panel, ".why-detail");
    this.look = look;
    this.choose = choose;
    this.at = 0;
    this.shown = -1;
    const place = (/** @type {Event} */ { target }) => {
      const piece = target instanceof Element ? target.closest("[data-index]") : null;
      return piece ? Number(piece.getAttribute("data-index")) : -1;
    };
    for (const event of ["mouseover", "focusin"]) {
      this.box.addEventListener(event, (over) => place(over) >= 0 && this.show(place(over)));
    }
    this.box.addEventListener("click", (event) => {
      const index = place(event);
      if (index < 0) return;
      this.goTo(index);
      this.choose(index);
    });
    this.box.addEventListener("keydown", (event) => {
      const last = this.box.children.length - 1;
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
      if (step) this.goTo(Math.max(0, Math.min(last, this.at + step)));
      else if ((event.key === "Enter" || event.key === " ") && !event.ctrlKey && !event.metaKey) this.choose(this.at);
      else return;
      event.preventDefault();
    });
  }

  /** @param {RibbonPiece[]} pieces */
  fill(pieces) {
    const spans = this.box.children;
    pieces.forEach(({ text, label, strength, chosen }, index) => {
      const span = /** @type {HTMLElement | undefined} */ (spans[index]) ?? this.box.appendChild(make("span"));
      span.setAttribute("role", "option");
      span.dataset.index = String(index);
      if (span.textContent !== shown(text)) span.textContent = shown(text);
      span.setAttribute("aria-label", label);
      span.setAttribute("aria-selected", String(Boolean(chosen)));
      span.className = !strength ? "" : strength > 0 ? "is-more" : "is-less";
      // small changes are visible too
      span.style.setProperty("--strength", Math.min(1, Math.abs(strength ?? 0) ** 0.7).toFixed(3));
    });
    while (spans.length > pieces.length) spans[spans.length - 1].remove();
    this.at = Math.min(this.at, Math.max(0, pieces.length - 1));
    this.rove();
  }

  // One piece at a time can be reached with Tab, the others with the arrow keys.
  rove() {
    [...this.box.children].forEach((span, index) => span.setAttribute("tabindex", index === this.at ? "0" : "-1"));
  }

  /** @param {number} index */
  goTo(index) {
    this.at = index;
    this.rove();
    /** @type {HTMLElement | undefined} */ (this.box.children[index])?.focus();
  }

  /** @param {number} index */
  show(index) {
    this.shown = index;
    this.detail.replaceChildren();
    this.look(index, this.detail);
  }

  /** Refresh the description of the current piece. */
  refresh() {
    if (this.shown >= 0 && this.shown < this.box.children.length) this.show(this.shown);
    else this.detail.replaceChildren();
  }
}

/** The scale under a ribbon. @param {HTMLElement} panel @param {string} less @param {string} more */
export function showScale(panel, less, more) {
  find(panel, ".why-scale").replaceChildren(make("span", "", less), make("i", "ramp"), make("span", "", more));
}
