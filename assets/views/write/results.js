// What a request gave besides the text. The editor tells its records ("record") and the model's words as
// they now stand in the text ("written"); a completion that is to take their place goes back ("take").

import { finder, make, makeButton, visible } from "../../components/dom.js";
import { emit, on } from "../../core/events.js";
import { plural, signed } from "../../core/format.js";
import { sessions } from "../../core/sessions.js";
import { TokenTable } from "./token_table.js";

/** @typedef {{text: string, tokens: Token[], end: any, card: HTMLElement | null, node?: string}} Completion */

/** @param {Component} component */
export function mount({ element, props }) {
  const panel = finder(element)(".results");
  const $ = finder(panel);
  const details = (/** @type {string} */ of) => $(`[data-of="${of}"]`, HTMLDetailsElement);
  const tables = {
    prompt: new TokenTable(details("prompt"), false, props.labels),
    completion: new TokenTable(details("completion"), true, props.labels),
  };

  let request = /** @type {{n: number, candidates: number, completions: Completion[], isRunning: boolean} | null} */ (null);
  let inText = /** @type {string | null} */ (null); // the model's words as they stand in the text, null where they do not

  // ---- the request's records

  /** @returns {Completion} */
  const newCompletion = () => ({ text: "", tokens: [], end: null, card: null });

  function begin() {
    request = { n: 1, candidates: 1, completions: [newCompletion()], isRunning: true };
    panel.hidden = true;
    for (const part of panel.querySelectorAll(".notes, .cards, .score, .tokens, .which")) part.setAttribute("hidden", "");
    for (const list of panel.querySelectorAll(".notes, .cards, .which select")) list.replaceChildren();
    tables.prompt.show([]);
    tables.completion.show([]);
    $("h2").textContent = "Results";
  }

  /** @type {Record<string, (record: any, completion: Completion) => void>} */
  const handlers = {
    started(record) {
      if (record.dropped_tokens) {
        note(`The first ${plural(record.dropped_tokens, "token")} of the text did not fit and were left out.`);
      }
      if (typeof record.healed === "string") {
        note("The last token of the text was taken back, and the words begin with its characters: ").append(visible(record.healed));
      }
      if (record.n > 1) layOutCards(record);
    },
    scored({ tokens, perplexity, bits_per_byte, sum_logprob }) {
      const measures = [];
      if (perplexity !== null) measures.push(`perplexity ${perplexity.toPrecision(4)}`);
      if (bits_per_byte !== null) measures.push(`${bits_per_byte.toFixed(3)} bits per byte`);
      if (sum_logprob !== null) measures.push(`sum of log-probabilities ${signed(sum_logprob, 2)}`);
      $(".score").textContent = `The prompt, ${plural(tokens.length, "token")}: ${measures.join(" · ")}`;
      reveal(".score");
      reveal('[data-of="prompt"]');
      tables.prompt.show(tokens);
    },
    drafting({ tokens }) {
      if (!request || request.n === 1) return;
      $("h2").textContent = `Drafting ${plural(request.candidates, "completion")}: ${plural(tokens, "token")}`;
    },
    text({ text }, completion) {
      completion.text += text;
      const shown = /** @type {Text | undefined} */ (completion.card?.querySelector(".card-text")?.firstChild);
      shown?.appendData(shown.length ? text : text.replace(/^\n+/, "")); // no empty first lines
    },
    tokens({ tokens, index }, completion) {
      completion.tokens.push(...tokens);
      reveal('[data-of="completion"]');
      $(".which").hidden = request?.n === 1;
      if (index === tables.completion.index) tables.completion.show(completion.tokens, index);
    },
    finished(record, completion) {
      completion.end = record;
      if (record.filtered_away) {
        const which = (request?.n ?? 1) > 1 ? ` of completion ${record.index + 1}` : "";
        note(
          `At ${plural(record.filtered_away, "token")}${which} the controls had left nothing to choose from; ` +
            "the model's likeliest was taken.",
        );
      }
      describe(completion);
    },
    end() {
      if (request) request.isRunning = false;
      showCards();
    },
  };

  on("record", (record) => {
    if (record.event === "begin") return begin();
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
      completion.card = $(".cards").appendChild(makeCard(completion, `Completion ${index + 1}`));
      $(".which select").appendChild(new Option(String(index + 1), String(index)));
    });
    reveal(".cards");
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
      makeButton("", "Take this one", () => emit("take", completion.text), {
        title: "Put these words where the model's words are. Undo brings the old ones back.",
      }),
      makeButton("", "☆", (button) => star(completion, button), {
        title: "Keep it in mind: a star in the tree of branches",
        "aria-label": `Star ${name.toLowerCase()}`,
        "aria-pressed": "false",
      }),
      makeButton("", "Prune", (button) => prune(completion, button), {
        title: "Take it out of the tree of branches. It can be put back.",
      }),
    );
    foot.append(make("p", "card-end"), acts);
    card.append(make("p", "card-name", name), text, foot);
    return card;
  }

  /** @param {Completion} completion */
  function describe({ card, end }) {
    if (!card) return;
    const $card = finder(card);
    const name = [card.getAttribute("aria-label"), `seed ${end.seed}`];
    if (end.mean_logprob !== null) {
      name.push(`${signed(end.mean_logprob, 2)} a token`);
      $card(".card-name").title = "Mean log-probability of a token, by the model itself";
    }
    $card(".card-name").textContent = name.join(" · ");
    $card(".card-end").textContent = end.message;
    card.classList.toggle("is-broken", end.reason === "error");
  }

  // Every completion is a node of the session's tree; both of these can be taken back.
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
    button.textContent = tree.node(node) ? "Prune" : "Put back";
    treeChanged();
  }

  function treeChanged() {
    sessions.scheduleSave();
    emit("tree");
  }

  // The completion that stands in the text has no card: there it can be read. While the request runs that is
  // the first; later whichever was taken, and whatever undoing makes of it.
  function showCards() {
    if (!request || request.n === 1) return;
    const { completions, isRunning, n } = request;
    const shown = isRunning ? 0 : completions.findIndex(({ text }) => text === inText);
    completions.forEach(({ card }, index) => {
      if (!card) return;
      card.hidden = index === shown;
      for (const button of card.querySelectorAll("button")) button.disabled = isRunning;
    });
    $("h2").textContent = shown < 0 ? plural(n, "completion") : `Completion ${shown + 1} of ${n} is in the text`;
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
    const text = document.querySelector(".editor textarea");
    if (text instanceof HTMLElement) text.focus({ preventScroll: true });
  });

  // The sheet gives room to what is shown below it.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--results-height", `${panel.offsetHeight}px`);
  }).observe(panel);
}
