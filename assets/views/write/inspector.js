// What is known of one token: its probabilities, its rank, and the tokens that might have stood there, each
// of which can be taken. Beside the token, or at the bottom of a narrow screen.

import { make, visible } from "../../components/dom.js";
import { number, percent } from "../../core/format.js";
import { END_OF_TEXT, PART_OF_CHARACTER, TEXT_TOKEN } from "../../core/tokens.js";

const INSPECTOR_GAP = 6;

export class Inspector {
  constructor(view, labels) {
    this.view = view;
    this.labels = labels;
    this.box = view.root.querySelector(".inspector");
    this.cell = null;
    this.part = 0; // which of the cell's tokens
    this.isPinned = false;
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.click(event));
  }

  // A pinned one stays until it is left; another goes with the pointer.
  show(cell, { part = 0, isPinned = false, takeFocus = false } = {}) {
    this.isPinned = isPinned || (this.isPinned && this.cell !== null);
    if (this.cell === cell && this.part === part && !takeFocus) return;
    this.cell = cell;
    this.part = part;
    this.build();
    this.box.hidden = false;
    this.place();
    this.view.underline(cell);
    if (takeFocus) (this.choices.find((choice) => !choice.disabled) ?? this.box).focus({ preventScroll: true });
  }

  hide({ giveFocus = false } = {}) {
    if (!this.cell) return;
    const hadFocus = this.box.contains(document.activeElement);
    this.cell = null;
    this.isPinned = false;
    this.box.hidden = true;
    this.view.underline(null);
    if (giveFocus && hadFocus) this.view.area.focus({ preventScroll: true });
  }

  get choices() {
    return [...this.box.querySelectorAll(".choices button")];
  }

  place() {
    const lines = this.view.rectanglesOf(this.cell);
    const token = lines[lines.length - 1] ?? this.view.area.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.box;
    const left = Math.max(8, Math.min(token.left - 12, innerWidth - offsetWidth - 8));
    const below = token.bottom + INSPECTOR_GAP;
    const fits = below + offsetHeight < innerHeight - 8;
    const top = fits ? below : Math.max(8, (lines[0] ?? token).top - INSPECTOR_GAP - offsetHeight);
    this.box.style.left = `${left}px`;
    this.box.style.top = `${top}px`;
  }

  build() {
    const { cell, part, box } = this;
    const token = cell.tokens[part];
    const head = make("header");
    head.append(this.walk(-1, "‹", "Token before"), visible(token.text), this.walk(1, "›", "Next token"));
    const close = make("button", "quiet close", "✕");
    close.type = "button";
    close.dataset.does = "close";
    close.setAttribute("aria-label", "Close token");
    head.appendChild(close);

    const facts = make("dl");
    const fact = (name, value) => facts.append(make("dt", "", name), make("dd", "", value));
    if (typeof token.logprob === "number") {
      fact("By the model", percent(token.logprob));
      if (typeof token.sampled_logprob === "number") fact("After the controls", percent(token.sampled_logprob));
      fact("Rank", number(token.rank));
    }
    const list = make("ol", "choices");
    this.others(token).forEach((other) => list.appendChild(this.choice(other, token)));
    box.replaceChildren(head, ...this.notes(token).map((text) => make("p", "about", text)), facts, list);
    if (list.children.length) {
      const isScore = typeof token.sampled_logprob !== "number";
      box.appendChild(make("p", "key", `Press a word to go on from it. Bars: by the model${isScore ? "" : ", and after the controls below it"}.`));
    }
    box.setAttribute("aria-label", `Token ${token.text}`);
  }

  // The likeliest, and the chosen one where it is not among them.
  others(token) {
    const { alternatives } = token;
    const isThere = alternatives.some(({ token_id }) => token_id === token.token_id);
    return isThere || typeof token.logprob !== "number" ? alternatives : [...alternatives, token];
  }

  notes(token) {
    const { cell, part } = this;
    const notes = [];
    if (cell.tokens.length > 1 || token.kind === PART_OF_CHARACTER) {
      const shown = this.view.text().slice(cell.from, cell.to);
      notes.push(`Part ${part + 1} of the ${cell.tokens.length} tokens that make “${shown}”.`);
    }
    if (token.kind === END_OF_TEXT) notes.push("The end of the text: it is a sign to the model, and no words.");
    if (token.text === "\n") notes.push("A line break.");
    if (token.filtered_away) notes.push("The controls had left nothing to choose from; the model's likeliest was taken.");
    if (typeof token.logprob !== "number") notes.push("Nothing stands before the first token, so it has no probability.");
    if (part > 0) notes.push("It begins within a character, so no other can be put here.");
    return notes;
  }

  walk(step, sign, name) {
    const button = make("button", "quiet", sign);
    button.type = "button";
    button.dataset.step = step;
    button.setAttribute("aria-label", name);
    button.disabled = !this.neighbour(step);
    return button;
  }

  // The token before or behind this one, as [cell, part].
  neighbour(step) {
    const part = this.part + step;
    if (part >= 0 && part < this.cell.tokens.length) return [this.cell, part];
    const cell = this.view.neighbour(this.cell, step);
    return cell && [cell, step > 0 ? 0 : cell.tokens.length - 1];
  }

  choice(other, token) {
    const item = make("li");
    const button = item.appendChild(make("button"));
    button.type = "button";
    button.alternative = other;
    const isChosen = other.token_id === token.token_id;
    const reason = isChosen ? null : this.whyNot(other);
    button.disabled = isChosen || Boolean(reason);
    item.classList.toggle("is-chosen", isChosen);
    button.appendChild(visible(other.text));
    const bars = button.appendChild(make("span", "bars"));
    const bar = (name, logprob) => {
      const line = bars.appendChild(make("span", name));
      line.style.setProperty("--share", Math.exp(logprob).toFixed(4));
    };
    bar("of-model", other.logprob);
    const shares = button.appendChild(make("span", "shares", percent(other.logprob)));
    const notes = [];
    if (typeof other.sampled_logprob === "number") {
      bar("after-controls", other.sampled_logprob);
      shares.append(` → ${percent(other.sampled_logprob)}`);
    } else if (other.removed_by) {
      notes.push(`✕ ${this.labels[other.removed_by] ?? other.removed_by}`);
    }
    if (reason) notes.push(reason);
    if (notes.length) button.appendChild(make("small", "", notes.join(" · ")));
    if (isChosen) button.appendChild(make("span", "sr-only", "is the one that stands here"));
    if (!button.disabled) button.title = "Cut the text here, put this in, and go on from it. Undo brings the old words back.";
    return item;
  }

  whyNot({ kind }) {
    if (kind === PART_OF_CHARACTER) return "a part of a character";
    if (kind !== TEXT_TOKEN) return "ends the text";
    return this.part > 0 ? "within a character" : null;
  }

  take(other) {
    const { cell, part } = this;
    const { stretch } = cell;
    const token = cell.tokens[part];
    const left = stretch.length === null ? 0 : stretch.length - cell.first - part - 1;
    this.hide();
    this.view.goOn(cell.from, other.text, left > 0 ? left : null, {
      ...other,
      rank: token.alternatives.indexOf(other) + 1,
      filtered_away: false,
      alternatives: token.alternatives,
    });
  }

  click({ target }) {
    const button = target.closest("button");
    if (!button || button.disabled) return;
    if (button.alternative) this.take(button.alternative);
    else if (button.dataset.does === "close") this.hide({ giveFocus: true });
    else this.step(Number(button.dataset.step));
  }

  step(step) {
    const next = this.neighbour(step);
    if (!next) return;
    const [cell, part] = next;
    this.isPinned = true;
    if (cell.to > cell.from) this.view.reveal(cell.to);
    this.show(cell, { part, takeFocus: true });
  }

  key(event) {
    const { choices } = this;
    const at = choices.indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const walk = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (walk) {
      event.preventDefault();
      this.step(walk);
    } else if (move) {
      event.preventDefault();
      const free = choices.filter((choice) => !choice.disabled);
      const next = free[Math.max(0, Math.min(free.length - 1, free.indexOf(choices[at]) + move))];
      next?.focus();
    } else if (event.key === "Tab") {
      event.preventDefault(); // it stands beside the text: left by Escape
      const all = [...this.box.querySelectorAll("button:not(:disabled)")];
      const step = event.shiftKey ? -1 : 1;
      all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus();
    }
  }
}
