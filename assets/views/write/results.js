// A request's results besides the text. The editor sends its records ("record") and the model's words in the
// text ("written"); the event "take" asks the editor to replace these by another completion.

import { bringIntoView, editorsField, finder, make, makeButton, noWords, update, visible } from "../../components/dom.js";
import { describeMeasures } from "../../components/measures.js";
import { emit, on } from "../../core/events.js";
import { signed } from "../../core/format.js";
import { nodes, t } from "../../core/i18n.js";
import { distinctWords, measuresOf } from "../../core/measures.js";
import { sessions } from "../../core/sessions.js";
import { countWords } from "../../core/text_file.js";
import { TokenTable } from "./token_table.js";

/** @typedef {{text: string, tokens: Token[], end: any, card: HTMLElement | null, node?: string}} Completion */

/** @param {Component} component */
export function mount({ element }) {
  const panel = finder(element)(".results");
  const $ = finder(panel);
  const details = (/** @type {string} */ of) => $(`[data-of="${of}"]`, HTMLDetailsElement);
  const tables = {
    prompt: new TokenTable(details("prompt"), false),
    completion: new TokenTable(details("completion"), true),
  };

  let request = /** @type {{n: number, candidates: number, completions: Completion[], isRunning: boolean} | null} */ (null);
  let isCut = false; // whether only the end of the text was sent
  let inText = /** @type {string | null} */ (null); // the model's words in the text, null if changed

  // ---- the request's records

  /** @returns {Completion} */
  const newCompletion = () => ({ text: "", tokens: [], end: null, card: null });

  function begin() {
    request = { n: 1, candidates: 1, completions: [newCompletion()], isRunning: true };
    panel.hidden = true;
    for (const part of panel.querySelectorAll(".notes, .cards, .score, .tokens, .which, .arrange")) part.setAttribute("hidden", "");
    for (const list of panel.querySelectorAll(".notes, .cards, .which select")) list.replaceChildren();
    tables.prompt.show([]);
    tables.completion.show([]);
    $("h2").textContent = t("results.results");
  }

  /** @type {Record<string, (record: any, completion: Completion) => void>} */
  const handlers = {
    started(record) {
      if (isCut) note(t("results.cut"));
      else if (record.dropped_tokens) note(t("results.dropped", { count: record.dropped_tokens }));
      if (typeof record.healed === "string") {
        note("").append(...nodes("results.healed", { token: visible(record.healed) }));
      }
      if (record.fills) note(t("fill.how", { count: record.candidates }));
      if (record.n > 1) layOutCards(record);
    },
    left_out({ tokens }) {
      if (!isCut) note(t("results.dropped", { count: tokens }));
    },
    scored({ tokens, bits_per_byte, sum_logprob }) {
      const found = measuresOf(tokens.map((/** @type {Token} */ { logprob }) => logprob));
      const measures = found ? describeMeasures({ ...found, bitsPerByte: bits_per_byte }) : [];
      if (sum_logprob !== null) measures.push(t("results.sum", { value: signed(sum_logprob, 2) }));
      $(".score").textContent = t("results.score", { count: tokens.length, measures: measures.join(" · ") });
      reveal(".score");
      reveal('[data-of="prompt"]');
      tables.prompt.show(tokens);
    },
    drafting({ tokens }) {
      if (!request || request.n === 1) return;
      $("h2").textContent = t("run.drafting", { completions: t("count.completions", { count: request.candidates }), tokens: t("count.tokens", { count: tokens }) });
    },
    text({ text }, completion) {
      completion.text += text;
      const shown = /** @type {Text | undefined} */ (completion.card?.querySelector(".card-text")?.firstChild);
      shown?.appendData(shown.length ? text : text.replace(/^\n+/, "")); // no empty first lines
    },
    cut({ length }, completion) {
      completion.text = completion.text.slice(0, completion.text.length - length);
      const shown = /** @type {Text | undefined} */ (completion.card?.querySelector(".card-text")?.firstChild);
      shown?.deleteData(Math.max(0, shown.length - length), length);
    },
    tokens({ tokens, index }, completion) {
      completion.tokens.push(...tokens);
      reveal('[data-of="completion"]');
      update($(".which"), { hidden: request?.n === 1 });
      if (index === tables.completion.index) tables.completion.show(completion.tokens, index);
    },
    finished(record, completion) {
      completion.end = record;
      if (record.filtered_away) {
        const key = (request?.n ?? 1) > 1 ? "results.filtered_away_of" : "results.filtered_away";
        note(t(key, { count: record.filtered_away, completion: record.index + 1 }));
      }
      describe(completion);
    },
    end() {
      if (request) request.isRunning = false;
      request?.completions.forEach(writeFigures);
      request?.completions.forEach(markBlank);
      arrange();
      showCards();
      if (!panel.hidden && request && request.n > 1) bringIntoView($(".cards"));
    },
  };

  on("record", (record) => {
    if (record.event === "begin") {
      ({ isCut } = record);
      return begin();
    }
    const completion = request?.completions[record.index ?? 0];
    if (completion) handlers[record.event]?.(record, completion);
  });
  on("written", (words) => {
    inText = words;
    showCards();
  });

  /** @param {string} selector */
  function reveal(selector) {
    $(selector).hidden = false;
    panel.hidden = false;
  }

  /** @param {string} text */
  function note(text) {
    reveal(".notes");
    return $(".notes").appendChild(make("li", "", text));
  }

  // ---- completions side by side

  /** @param {{n: number, candidates: number}} started */
  function layOutCards({ n, candidates }) {
    const completions = Array.from({ length: n }, newCompletion);
    request = { n, candidates, completions, isRunning: true };
    completions.forEach((completion, index) => {
      completion.node = sessions.current.tree.growing[index]?.id;
      completion.card = $(".cards").appendChild(makeCard(completion, t("results.completion", { number: index + 1 })));
      $(".which select").appendChild(new Option(String(index + 1), String(index)));
    });
    reveal(".cards");
    $(".arrange").hidden = false;
    showCards();
  }

  /** @param {Completion} completion @param {string} name */
  function makeCard(completion, name) {
    const card = make("li", "card paper");
    card.setAttribute("aria-label", name);
    const text = make("p", "card-text as-written");
    text.tabIndex = 0;
    text.append(document.createTextNode(""));
    const foot = make("div", "card-foot");
    const acts = make("div", "card-acts button-row");
    acts.append(
      makeButton("", t("results.take"), () => emit("take", completion.text), {
        title: t("results.take_title"),
        "data-act": "take",
      }),
      makeButton("", "☆", (button) => star(completion, button), {
        title: t("results.star_title"),
        "aria-label": t("results.star", { name }),
        "aria-pressed": "false",
      }),
      makeButton("", t("common.prune"), (button) => prune(completion, button), {
        title: t("results.prune_title"),
      }),
    );
    foot.append(make("p", "card-end"), acts);
    card.append(make("p", "card-name", name), make("p", "card-figures"), text, foot);
    return card;
  }

  /** @param {Completion} completion */
  function describe({ card, end }) {
    if (!card) return;
    const $card = finder(card);
    const name = [card.getAttribute("aria-label"), t("run.seed", { seed: String(end.seed) })];
    if (end.mean_logprob !== null) {
      name.push(t("results.mean", { mean: signed(end.mean_logprob, 2) }));
      $card(".card-name").title = t("branches.mean_log_probability_of");
    }
    $card(".card-name").textContent = name.join(" · ");
    $card(".card-end").textContent = end.message;
    card.classList.toggle("is-broken", end.reason === "error");
  }

  /** @param {Completion} completion */
  function writeFigures({ card, text }) {
    const distinct = distinctWords(text);
    if (!card || distinct === null) return;
    const share = Object.assign(make("span", "", t("compare.distinct", { percent: Math.round(100 * distinct) })), { title: t("compare.distinct_title") });
    finder(card)(".card-figures").replaceChildren(t("count.words", { count: countWords(text) }), " · ", share);
  }

  /** Say so in the card of a completion without words; there is nothing to take. @param {Completion} completion */
  function markBlank({ card, text }) {
    if (!card || text.trim()) return;
    const $card = finder(card);
    $card(".card-text").append(noWords());
    $card('[data-act="take"]').hidden = true;
  }

  /** The figures by which cards can be sorted, the highest first; null if a figure is unknown. @type {Record<string, (completion: Completion) => number | null>} */
  const figures = {
    index: () => null,
    mean: ({ end }) => end?.mean_logprob ?? null,
    distinct: ({ text }) => distinctWords(text),
    words: ({ text }) => countWords(text),
  };

  // Cards are not moved while their completions grow.
  function arrange() {
    if (!request || request.n === 1 || request.isRunning) return;
    $('.arrange [value="mean"]', HTMLOptionElement).disabled = request.completions.every((one) => figures.mean(one) === null);
    const figure = figures[$(".arrange select", HTMLSelectElement).value];
    const ordered = request.completions.toSorted((a, b) => (figure(b) ?? -1e9) - (figure(a) ?? -1e9));
    $(".cards").append(...ordered.flatMap(({ card }) => card ?? []));
  }
  $(".arrange select").addEventListener("change", arrange);

  // Every completion is a node of the session's tree; both actions can be undone.
  /** @param {Completion} completion @param {HTMLButtonElement} button */
  function star({ node = "" }, button) {
    const { tree } = sessions.current;
    if (!tree.node(node)) return;
    tree.star(node);
    const { starred } = tree.get(node);
    button.setAttribute("aria-pressed", String(starred));
    button.textContent = starred ? "★" : "☆";
    treeChanged();
  }

  /** @param {Completion} completion @param {HTMLButtonElement} button */
  function prune({ node = "", card }, button) {
    const { tree } = sessions.current;
    if (tree.node(node)) tree.prune(node);
    else tree.restore(node);
    card?.classList.toggle("is-pruned", !tree.node(node));
    button.textContent = t(tree.node(node) ? "common.prune" : "results.put_back");
    treeChanged();
  }

  function treeChanged() {
    sessions.scheduleSave();
    emit("tree");
  }

  // The completion in the text has no card. While the request runs it is the first one; later the one that
  // was chosen or restored by undo.
  function showCards() {
    if (!request || request.n === 1) return;
    const { completions, isRunning, n } = request;
    const shown = isRunning ? 0 : completions.findIndex(({ text }) => text === inText);
    $(".cards").classList.toggle("is-running", isRunning);
    completions.forEach(({ card }, index) => {
      if (!card) return;
      card.hidden = index === shown;
      for (const button of card.querySelectorAll("button")) button.disabled = isRunning;
    });
    $("h2").textContent = shown < 0 ? t("count.completions", { count: n }) : t("results.in_text", { number: shown + 1, of: n });
  }

  $(".which select").addEventListener("change", ({ target }) => {
    const index = Number(/** @type {HTMLSelectElement} */ (target).value);
    if (request) tables.completion.show(request.completions[index].tokens, index);
  });

  function close() {
    request = null;
    panel.hidden = true;
  }
  on("session", close);
  $('[data-action="close"]').addEventListener("click", () => {
    close();
    editorsField()?.focus({ preventScroll: true });
  });

  // The sheet shrinks to make room for the results.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--results-height", `${panel.offsetHeight}px`);
  }).observe(panel);
}
