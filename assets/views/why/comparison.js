// The scored prompts as rows of a table, and the continuation coloured by the difference between the chosen
// prompt's log-probabilities and the reference's.

import { find, finder, make, makeButton, visible } from "../../components/dom.js";
import { tail as endOf } from "../../core/characters.js";
import { number, percent, signed } from "../../core/format.js";
import { t } from "../../core/i18n.js";
import { wordChanges } from "../../core/word_diff.js";
import { Ribbon, showScale } from "./ribbon.js";
import { against, change, difference, shown } from "./words.js";

export const FULL_COLOUR = Math.log(16); // a change by this factor has the full colour
const EXCERPT = 150; // characters of a prompt in the table
const AROUND = 4; // words shown before and after a difference

/** @typedef {{name: string, prompt: string, score: any}} Line score: null until it is known */

export class Comparison {
  /**
   * `edit(prompt)` puts a prompt into the field, `changed()` is called after changes by the visitor; while
   * `isRunning()` no line is removed.
   * @param {HTMLElement} panel
   * @param {{edit: (prompt: string) => void, leave: () => void, changed: () => void, isRunning: () => boolean}} view
   */
  constructor(panel, view) {
    this.panel = panel;
    this.$ = finder(panel);
    this.view = view;
    this.lines = /** @type {Line[]} */ ([]);
    this.names = 0;
    this.reference = /** @type {Line | null} */ (null); // the line to compare with
    this.chosen = /** @type {Line | null} */ (null); // the line whose words are shown
    this.bestFirst = this.$('[data-field="best-first"]', HTMLInputElement);
    this.table = this.$("table", HTMLTableElement);
    this.ribbon = new Ribbon(panel, "compared", { look: (index, line) => this.look(index, line) });
    this.bodies = /** @type {Map<HTMLTableSectionElement, Line>} */ (new Map());
    this.table.addEventListener("click", ({ target }) => target instanceof Element && this.press(target));
    this.bestFirst.addEventListener("change", () => {
      this.showTable();
      view.changed();
    });
  }

  clear() {
    this.lines = [];
    this.names = 0;
    this.reference = this.chosen = null;
  }

  /** The line of a prompt, a new one if there is none. @param {string} prompt */
  lineFor(prompt) {
    let line = this.lines.find((one) => one.prompt === prompt);
    if (!line) {
      line = { name: t("why.prompt_number", { number: (this.names += 1) }), prompt, score: null };
      this.lines.push(line);
    }
    return line;
  }

  /** @param {Element} target */
  press(target) {
    const pressed = target.closest("[data-row]");
    const line = pressed && this.bodies.get(/** @type {any} */ (pressed.closest("tbody")));
    if (!line) return;
    const action = pressed.getAttribute("data-row");
    if (action === "pick") this.chosen = line;
    else if (action === "refer") this.reference = line;
    else if (action === "edit") this.view.edit(line.prompt);
    else if (!this.view.isRunning()) {
      this.lines = this.lines.filter((one) => one !== line);
      this.view.leave();
    }
    this.view.changed();
  }

  /** @param {number} index @param {HTMLElement} line */
  look(index, line) {
    const { chosen, reference } = this;
    const [now, before] = [chosen?.score.tokens[index], reference?.score?.tokens[index]];
    line.append(visible(now.text));
    if (chosen === reference || !before) {
      const values = { percent: percent(now.logprob), name: chosen?.name ?? "", rank: now.rank, logprob: signed(now.logprob, 2) };
      line.append(" ", t("why.word_after", values), " ");
    } else {
      const delta = now.logprob - before.logprob;
      line.append(
        " ",
        make("b", "", change(delta)),
        t("why.word_changed", {
          percents: `${percent(before.logprob)} → ${percent(now.logprob)}`,
          logprob: difference(delta),
          ranks: `${number(before.rank)} → ${number(now.rank)}`,
        }),
        " ",
      );
    }
    line.append(t("why.likeliest"), " ");
    now.alternatives.forEach((/** @type {Alternative} */ other, /** @type {number} */ i) => {
      line.append(i ? ", " : "", visible(other.text), ` ${percent(other.logprob)}`);
    });
  }

  show() {
    const { lines, ribbon } = this;
    this.panel.hidden = lines.length === 0;
    if (!lines.length) return;
    if (!this.reference || !lines.includes(this.reference)) this.reference = lines[0];
    if (!this.chosen || !lines.includes(this.chosen)) this.chosen = this.reference;
    const { chosen, reference } = this;
    const isCompared = chosen !== reference && Boolean(reference.score) && Boolean(chosen.score);
    this.$("h3").textContent = !chosen.score
      ? t("why.is_not_scored", { name: chosen.name })
      : isCompared
        ? t("why.compared", {
            name: chosen.name,
            change: against(chosen.score.sum_logprob - reference.score.sum_logprob, reference.name),
          })
        : t("why.after", { name: chosen.name });
    this.$(".why-scale").hidden = !isCompared;
    if (isCompared) showScale(this.panel, change(-FULL_COLOUR), change(FULL_COLOUR));
    ribbon.fill(
      (chosen.score?.tokens ?? []).map((/** @type {any} */ now, /** @type {number} */ index) => {
        const delta = isCompared ? now.logprob - reference.score.tokens[index].logprob : null;
        const said = delta === null ? percent(now.logprob) : t("why.now", { change: change(delta), percent: percent(now.logprob) });
        return { text: now.text, label: `${shown(now.text)}: ${said}`, strength: delta === null ? null : delta / FULL_COLOUR };
      }),
    );
    ribbon.refresh();
    if (!ribbon.detail.childNodes.length && chosen.score) {
      ribbon.detail.textContent =
        lines.filter(({ score }) => score).length > 1
          ? t("why.point_at_word")
          : t("why.change_prompt");
    }
    this.showTable();
  }

  showTable() {
    const { lines, table, reference } = this;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    const body = /** @type {any} */ (focused?.closest("tbody"));
    const [line, action] = [this.bodies.get(body), focused?.dataset.row];
    for (const old of this.bodies.keys()) old.remove();
    this.bodies.clear();
    this.$(".why-order").hidden = lines.length < 2;
    this.$(".why-against").textContent = t("why.against", { name: reference?.name ?? "" });
    const worth = (/** @type {Line} */ { score }) => score?.sum_logprob ?? -Infinity;
    const inOrder = this.bestFirst.checked ? [...lines].sort((a, b) => worth(b) - worth(a) || 0) : lines;
    for (const one of inOrder) this.bodies.set(table.appendChild(this.body(one)), one);
    if (!line) return;
    const again = [...this.bodies].find(([, one]) => one === line)?.[0];
    const button = again?.querySelector(`[data-row="${action}"]`) ?? again?.querySelector("button");
    if (button instanceof HTMLElement) button.focus({ preventScroll: true });
  }

  /** @param {Line} line */
  body(line) {
    const { reference, chosen } = this;
    const { score } = line;
    const body = make("tbody", line === chosen ? "is-chosen" : "");
    const head = body.insertRow().appendChild(make("th"));
    head.scope = "rowgroup";
    head.colSpan = 4;
    const pick = head.appendChild(makeButton("why-pick", "", null, { "data-row": "pick", "aria-pressed": String(line === chosen) }));
    pick.append(make("span", "why-name", line.name), " ", this.excerpt(line));
    const row = body.insertRow();
    // isolated: the minus of a number stands before it in right-to-left languages too
    const figure = (/** @type {string} */ text) => row.insertCell().append(make("bdi", "", text));
    figure(score ? signed(score.sum_logprob, 2) : this.view.isRunning() ? "…" : t("why.not_scored"));
    figure(score ? signed(score.mean_logprob, 3) : "");
    figure(score ? score.bits_per_byte.toFixed(3) : "");
    const cell = row.insertCell();
    const said = cell.appendChild(make("span", "why-change"));
    if (line === reference) said.textContent = this.lines.length > 1 ? t("why.the_reference") : "";
    else if (score && reference?.score) {
      const delta = score.sum_logprob - reference.score.sum_logprob;
      said.textContent = change(delta);
      said.classList.add(delta > 0 ? "is-more" : "is-less");
    }
    if (score?.isCut) cell.append(make("small", "", ` ${t("why.left_out_uncounted")}`));
    else if (score?.dropped_tokens) cell.append(make("small", "", ` ${t("why.left_out", { count: score.dropped_tokens })}`));
    const hand = (/** @type {string} */ name, /** @type {string} */ text, /** @type {string} */ label, /** @type {string} */ title) =>
      makeButton("quiet", text, null, { "data-row": name, "aria-label": t(label, { name: line.name }), title });
    cell.appendChild(make("span", "why-hands")).append(
      hand("edit", t("why.edit"), "why.edit_name", t("why.edit_title")),
      ...(line === reference ? [] : [hand("refer", t("why.refer"), "why.refer_name", t("why.refer_title"))]),
      hand("remove", "✕", "why.remove_name", t("why.remove_title")),
    );
    return body;
  }

  /** An excerpt of the prompt: its end for the reference, else its differences from the reference and the words around them. @param {Line} line */
  excerpt(line) {
    const node = make("span", "why-excerpt as-written");
    const { prompt } = line;
    if (!prompt) {
      node.append(make("i", "", t("why.nothing")));
      return node;
    }
    const runs = line === this.reference || !this.reference ? null : wordChanges(this.reference.prompt, prompt);
    if (!runs) {
      node.append(prompt.length > EXCERPT ? `… ${shown(endOf(prompt, EXCERPT).replace(/^\S*\s+/, ""))}` : shown(prompt));
      return node;
    }
    runs.forEach(([kind, words], i) => {
      const text = (/** @type {string[]} */ some) => shown(some.join(""));
      const head = i === 0 ? 0 : AROUND;
      const tail = i === runs.length - 1 ? 0 : AROUND;
      if (kind !== "same") node.append(make(kind, "", text(words)));
      else if (words.length <= head + tail + 1) node.append(text(words));
      else node.append(`${text(words.slice(0, head))}… ${text(words.slice(words.length - tail))}`);
    });
    return node;
  }

  /** The result in a sentence; empty if there is nothing to compare. */
  get summary() {
    const { chosen, reference } = this;
    if (!chosen?.score || !reference?.score || chosen === reference) return "";
    return `${against(chosen.score.sum_logprob - reference.score.sum_logprob, reference.name)}. `;
  }
}

/** The panel of a view. @param {HTMLElement} element @param {string} name */
export const panelOf = (element, name) => find(element, `[data-panel="${name}"]`);
