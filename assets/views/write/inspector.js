// Details of one token: its probabilities, its rank, and the alternatives, each of which can be chosen. Shown
// beside the token, or at the bottom of a narrow screen.

import { find, make, makeButton, visible } from "../../components/dom.js";
import { number, percent } from "../../core/format.js";
import { labelOf, t } from "../../core/i18n.js";
import { END_OF_TEXT, PART_OF_CHARACTER, TEXT_TOKEN } from "../../core/tokens.js";

const GAP = 6;

export class Inspector {
  /** @param {import("./tokens.js").TokenView} view */
  constructor(view) {
    this.view = view;
    this.box = find(view.root, ".inspector");
    this.cell = /** @type {Cell | null} */ (null);
    this.part = 0; // index among the cell's tokens
    this.isPinned = false; // stays open until closed; otherwise follows the pointer
    this.box.addEventListener("keydown", (event) => this.key(event));
  }

  /** @param {Cell} cell @param {{part?: number, isPinned?: boolean, takeFocus?: boolean}} [options] */
  show(cell, { part = 0, isPinned = false, takeFocus = false } = {}) {
    this.isPinned = isPinned || (this.isPinned && this.cell !== null);
    if (this.cell === cell && this.part === part && !takeFocus) return;
    this.cell = cell;
    this.part = part;
    this.build(cell, cell.tokens[part]);
    this.box.hidden = false;
    this.place(cell);
    this.view.colours.underline(cell);
    if (takeFocus) (this.choices.find((choice) => !choice.disabled) ?? this.box).focus({ preventScroll: true });
  }

  hide({ giveFocus = false } = {}) {
    if (!this.cell) return;
    const hadFocus = this.box.contains(document.activeElement);
    this.cell = null;
    this.isPinned = false;
    this.box.hidden = true;
    this.view.colours.underline(null);
    if (giveFocus && hadFocus) this.view.sheet.focus();
  }

  /** @returns {HTMLButtonElement[]} */
  get choices() {
    return [...this.box.querySelectorAll(".choices button")].map((button) => /** @type {HTMLButtonElement} */ (button));
  }

  /** @param {Cell} cell */
  place(cell) {
    const lines = this.view.rectanglesOf(cell);
    const token = lines.at(-1) ?? this.view.sheet.area.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.box;
    const left = Math.max(8, Math.min(token.left - 12, innerWidth - offsetWidth - 8));
    const below = token.bottom + GAP;
    const fits = below + offsetHeight < innerHeight - 8;
    const top = fits ? below : Math.max(8, (lines[0] ?? token).top - GAP - offsetHeight);
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }

  /** @param {Cell} cell @param {Token} token */
  build(cell, token) {
    const head = make("header");
    const close = makeButton("quiet close", "✕", () => this.hide({ giveFocus: true }), { "aria-label": t("token.close") });
    head.append(this.walk(-1, "‹", t("token.before")), visible(token.text), this.walk(1, "›", t("token.next")), close);
    const facts = make("dl");
    const fact = (/** @type {string} */ name, /** @type {string} */ value) => facts.append(make("dt", "", name), make("dd", "", value));
    if (token.logprob !== null) {
      fact(t("token.by_model"), percent(token.logprob));
      if (typeof token.sampled_logprob === "number") fact(t("token.after_controls"), percent(token.sampled_logprob));
      if (token.rank) fact(t("token.rank"), number(token.rank)); // 0: the server gives no rank
    }
    const list = make("ol", "choices plain");
    const others = this.others(token);
    const largest = Math.max(...others.flatMap((other) => [other.logprob, other.sampled_logprob ?? -Infinity]));
    list.append(...others.map((other) => this.choice(other, cell, token, largest)));
    this.box.replaceChildren(head, ...this.notes(cell, token).map((text) => make("p", "about", text)), facts, list);
    if (list.children.length) {
      const isScore = typeof token.sampled_logprob !== "number";
      this.box.append(make("p", "key", t(isScore ? "token.key_of_score" : "token.key")));
    }
    this.box.setAttribute("aria-label", t("token.named", { token: token.text }));
  }

  /** The most probable tokens, and the chosen one if it is not among them. @param {Token} token @returns {Alternative[]} */
  others(token) {
    const { alternatives, logprob } = token;
    const isThere = alternatives.some(({ token_id }) => token_id === token.token_id);
    return isThere || logprob === null ? alternatives : [...alternatives, { ...token, logprob, removed_by: null }];
  }

  /** @param {Cell} cell @param {Token} token */
  notes(cell, token) {
    const notes = [];
    if (cell.tokens.length > 1 || token.kind === PART_OF_CHARACTER) {
      const shown = this.view.text().slice(cell.from, cell.to);
      notes.push(t("token.part", { part: this.part + 1, parts: cell.tokens.length, text: shown }));
    }
    if (token.kind === END_OF_TEXT) notes.push(t("token.end_of_text"));
    if (token.text === "\n") notes.push(t("token.line_break"));
    if (token.filtered_away) notes.push(t("token.filtered_away"));
    if (token.logprob === null) notes.push(t("token.first"));
    if (this.part > 0) notes.push(t("token.within"));
    return notes;
  }

  /** A button to another token. @param {number} step @param {string} sign @param {string} name */
  walk(step, sign, name) {
    const button = makeButton("quiet", sign, () => this.step(step), { "aria-label": name });
    button.disabled = !this.neighbour(step);
    return button;
  }

  /** The token before or behind this one. @param {number} step @returns {{cell: Cell, part: number} | null} */
  neighbour(step) {
    if (!this.cell) return null;
    const part = this.part + step;
    if (part >= 0 && part < this.cell.tokens.length) return { cell: this.cell, part };
    const cell = this.view.neighbour(this.cell, step);
    return cell && { cell, part: step > 0 ? 0 : cell.tokens.length - 1 };
  }

  /** @param {Alternative} other @param {Cell} cell @param {Token} token @param {number} largest log-probability, whose bar is full */
  choice(other, cell, token, largest) {
    const item = make("li");
    const isChosen = other.token_id === token.token_id;
    const reason = isChosen ? null : this.whyNot(other);
    const button = item.appendChild(makeButton("", "", () => this.take(other, cell, token)));
    button.disabled = isChosen || Boolean(reason);
    item.classList.toggle("is-chosen", isChosen);
    button.append(visible(other.text));
    const bars = button.appendChild(make("span", "bars"));
    const bar = (/** @type {string} */ name, /** @type {number} */ logprob) => {
      bars.appendChild(make("span", name)).style.setProperty("--share", Math.exp(logprob - largest).toFixed(4));
    };
    bar("of-model", other.logprob);
    const shares = button.appendChild(make("span", "shares", percent(other.logprob)));
    const notes = [];
    if (typeof other.sampled_logprob === "number") {
      bar("after-controls", other.sampled_logprob);
      shares.append(` → ${percent(other.sampled_logprob)}`);
    } else if (other.removed_by) {
      notes.push(`✕ ${labelOf(other.removed_by)}`);
    }
    if (reason) notes.push(reason);
    if (notes.length) button.append(make("small", "", notes.join(" · ")));
    if (isChosen) button.append(make("span", "sr-only", t("token.chosen")));
    if (!button.disabled) button.title = t("token.take");
    return item;
  }

  /** Why an alternative cannot be taken. @param {Alternative} other */
  whyNot({ kind }) {
    if (kind === PART_OF_CHARACTER) return t("token.part_of_character");
    if (kind !== TEXT_TOKEN) return t("token.ends_text");
    return this.part > 0 ? t("token.within_character") : null;
  }

  /** @param {Alternative} other @param {Cell} cell @param {Token} token */
  take(other, cell, token) {
    const { alternatives } = token;
    const { length } = cell.stretch;
    const left = length === null ? 0 : length - cell.first - this.part - 1;
    const rank = alternatives.indexOf(other) + 1;
    this.hide();
    this.view.goOn(cell.from, other.text, left > 0 ? left : null, { ...other, rank, length: 0, filtered_away: false, alternatives });
  }

  /** @param {number} step */
  step(step) {
    const next = this.neighbour(step);
    if (!next) return;
    this.isPinned = true;
    if (next.cell.to > next.cell.from) this.view.sheet.reveal(next.cell.to);
    this.show(next.cell, { part: next.part, takeFocus: true });
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const focused = /** @type {HTMLButtonElement} */ (document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const walk = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!walk && !move && event.key !== "Tab") return;
    event.preventDefault(); // Tab stays inside; Escape closes the box
    if (walk) return this.step(walk);
    if (move) {
      const free = this.choices.filter((choice) => !choice.disabled);
      free[Math.max(0, Math.min(free.length - 1, free.indexOf(focused) + move))]?.focus();
      return;
    }
    const all = /** @type {HTMLButtonElement[]} */ ([...this.box.querySelectorAll("button:not(:disabled)")]);
    all[(all.indexOf(focused) + (event.shiftKey ? -1 : 1) + all.length) % all.length]?.focus();
  }
}
