// What a request gave besides the text. The editor tells its records ("record") and the model's words as
// they now stand in the text ("written"); a completion that is to take their place goes back ("take").
// Text of any origin is put in as text only.

import { download, make, visible } from "../../components/dom.js";
import { emit, on } from "../../core/events.js";
import { number, percent, plural, signed } from "../../core/format.js";
import { sessions } from "../../core/sessions.js";

const ROWS_A_FRAME = 100;

export function mount({ element, props }) {
  const panel = element.querySelector(".results");
  const $ = (selector) => panel.querySelector(selector);

  let request = null; // {n, completions: [{text, tokens, end, card}], running}
  let inText = null; // the model's words as they stand in the text, null where they do not

  // ---- the request's records

  function begin() {
    request = { n: 1, completions: [newCompletion()], running: true };
    panel.hidden = true;
    for (const part of panel.querySelectorAll(".notes, .cards, .score, .tokens, .which")) part.hidden = true;
    for (const list of panel.querySelectorAll(".notes, .cards, .which select")) list.replaceChildren();
    tables.prompt.show([]);
    tables.completion.show([]);
    $("h2").textContent = "Results";
  }

  const newCompletion = () => ({ text: "", tokens: [], end: null, card: null });

  const heard = {
    begin,
    started(record) {
      if (record.dropped_tokens) {
        note(`The first ${plural(record.dropped_tokens, "token")} of the text did not fit and were left out.`);
      }
      if (typeof record.healed === "string") {
        const line = note("The last token of the text was taken back, and the words begin with its characters: ");
        line.appendChild(visible(record.healed));
      }
      if (record.n > 1) layOutCards(record);
    },
    scored(record) {
      const measures = [];
      if (record.perplexity !== null) measures.push(`perplexity ${record.perplexity.toPrecision(4)}`);
      if (record.bits_per_byte !== null) measures.push(`${record.bits_per_byte.toFixed(3)} bits per byte`);
      if (record.sum_logprob !== null) measures.push(`sum of log-probabilities ${signed(record.sum_logprob, 2)}`);
      $(".score").textContent = `The prompt, ${plural(record.tokens.length, "token")}: ${measures.join(" · ")}`;
      reveal(".score");
      reveal('[data-of="prompt"]');
      tables.prompt.show(record.tokens);
    },
    drafting({ tokens }) {
      if (request.n > 1) $("h2").textContent = `Drafting ${plural(request.candidates, "completion")}: ${plural(tokens, "token")}`;
    },
    text(record) {
      const completion = request.completions[record.index];
      if (!completion) return;
      completion.text += record.text;
      const shown = completion.card?.querySelector(".card-text").firstChild;
      shown?.appendData(shown.length ? record.text : record.text.replace(/^\n+/, "")); // no empty first lines
    },
    tokens(record) {
      const completion = request.completions[record.index];
      if (!completion) return;
      completion.tokens.push(...record.tokens);
      reveal('[data-of="completion"]');
      $(".which").hidden = request.n === 1;
      if (record.index === tables.completion.index) tables.completion.show(completion.tokens, record.index);
    },
    finished(record) {
      const completion = request.completions[record.index];
      if (!completion) return;
      completion.end = record;
      if (record.filtered_away) {
        const which = request.n > 1 ? ` of completion ${record.index + 1}` : "";
        note(
          `At ${plural(record.filtered_away, "token")}${which} the controls had left nothing to choose from; ` +
            "the model's likeliest was taken.",
        );
      }
      if (completion.card) describe(completion);
    },
    end() {
      request.running = false;
      showCards();
    },
  };

  on("record", (record) => {
    if (record.event === "begin" || request) heard[record.event]?.(record);
  });

  on("written", (words) => {
    inText = words;
    showCards();
  });

  function reveal(selector) {
    $(selector).hidden = false;
    panel.hidden = false;
  }

  function note(text) {
    reveal(".notes");
    return $(".notes").appendChild(make("li", "", text));
  }

  // ---- completions side by side

  function layOutCards({ n, candidates }) {
    request.n = n;
    request.candidates = candidates;
    request.completions = Array.from({ length: n }, newCompletion);
    request.completions.forEach((completion, index) => {
      const card = $(".cards").appendChild(make("li", "card paper"));
      completion.card = card;
      card.setAttribute("aria-label", `Completion ${index + 1}`);
      card.appendChild(make("p", "card-name", `Completion ${index + 1}`));
      const text = card.appendChild(make("p", "card-text as-written", ""));
      text.tabIndex = 0;
      text.appendChild(document.createTextNode(""));
      const foot = card.appendChild(make("div", "card-foot"));
      foot.appendChild(make("p", "card-end"));
      completion.node = sessions.current.tree.growing[index]?.id;
      const acts = foot.appendChild(make("div", "card-acts button-row"));
      const act = (name, title, hear) => {
        const button = acts.appendChild(make("button", "", name));
        button.type = "button";
        button.title = title;
        button.addEventListener("click", () => hear(button));
        return button;
      };
      act("Take this one", "Put these words where the model's words are. Undo brings the old ones back.", () =>
        emit("take", completion.text),
      );
      const star = act("☆", "Keep it in mind: a star in the tree of branches", () => keep(completion, star));
      star.setAttribute("aria-label", `Star completion ${index + 1}`);
      star.setAttribute("aria-pressed", "false");
      act("Prune", "Take it out of the tree of branches. It can be put back.", (button) => prune(completion, button));
      const option = $(".which select").appendChild(make("option", "", String(index + 1)));
      option.value = index;
    });
    reveal(".cards");
    showCards();
  }

  function describe({ card, end }) {
    const name = [card.getAttribute("aria-label"), `seed ${end.seed}`];
    if (end.mean_logprob !== null) name.push(`${signed(end.mean_logprob, 2)} a token`);
    const line = card.querySelector(".card-name");
    line.textContent = name.join(" · ");
    if (end.mean_logprob !== null) line.title = "Mean log-probability of a token, by the model itself";
    card.querySelector(".card-end").textContent = end.message;
    card.classList.toggle("is-broken", end.reason === "error");
  }

  // Every completion is a node of the session's tree; both of these can be taken back.
  function keep({ node }, button) {
    const { tree } = sessions.current;
    if (!tree.node(node)) return;
    tree.star(node);
    button.setAttribute("aria-pressed", String(tree.node(node).starred));
    button.textContent = tree.node(node).starred ? "★" : "☆";
    treeChanged();
  }

  function prune({ node, card }, button) {
    const { tree } = sessions.current;
    const isThere = Boolean(tree.node(node));
    if (isThere) tree.prune(node);
    else tree.restore(node);
    card.classList.toggle("is-pruned", !tree.node(node));
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
    const { completions, running, n } = request;
    const shown = running ? 0 : completions.findIndex(({ text }) => text === inText);
    completions.forEach(({ card }, index) => {
      card.hidden = index === shown;
      for (const button of card.querySelectorAll("button")) button.disabled = running;
    });
    $("h2").textContent = shown < 0 ? plural(n, "completion") : `Completion ${shown + 1} of ${n} is in the text`;
  }

  // ---- tables of tokens, whose rows are made when they are looked at

  class TokenTable {
    constructor(details, after) {
      this.details = details;
      this.box = details.querySelector(".token-table");
      this.after = after; // whether the controls had a say
      this.index = 0; // the completion whose tokens these are
      this.tokens = [];
      details.addEventListener("toggle", () => this.grow());
      details.querySelector(".save-table").addEventListener("click", () => this.save());
    }

    // The same list again has grown; another one takes its place.
    show(tokens, index = 0) {
      if (tokens !== this.tokens) {
        this.tokens = tokens;
        this.index = index;
        this.body = null;
        this.box.replaceChildren();
      }
      this.grow();
    }

    grow() {
      if (!this.details.open || this.frame || !this.tokens.length) return;
      this.frame = requestAnimationFrame(() => {
        this.frame = null;
        this.body ??= this.head();
        const made = this.body.rows.length;
        const next = this.tokens.slice(made, made + ROWS_A_FRAME);
        this.body.append(...next.map((token) => this.row(token)));
        if (made + next.length < this.tokens.length) this.grow();
      });
    }

    save() {
      download(this.after ? "tokens.csv" : "prompt-tokens.csv", "text/csv", tableAsCsv(this.tokens));
    }

    head() {
      const table = this.box.appendChild(make("table"));
      const head = table.createTHead().insertRow();
      const columns = ["Token", "Model", ...(this.after ? ["After controls"] : []), "Rank", "Likeliest"];
      for (const name of columns) head.appendChild(make("th", "", name)).scope = "col";
      return table.createTBody();
    }

    row(token) {
      const row = document.createElement("tr");
      row.insertCell().appendChild(visible(token.text));
      this.probability(row, token.logprob);
      if (this.after) {
        const cell = this.probability(row, token.sampled_logprob);
        if (token.filtered_away) cell.appendChild(make("small", "", " nothing was left"));
      }
      row.insertCell().textContent = token.rank ? number(token.rank) : "";
      const others = row.insertCell();
      for (const other of token.alternatives ?? []) {
        const item = others.appendChild(make("span", "alternative"));
        item.classList.toggle("is-chosen", other.token_id === token.token_id);
        item.appendChild(visible(other.text));
        item.append(` ${percent(other.logprob)}`);
        if (other.removed_by) item.appendChild(make("small", "", ` ✕ ${props.labels[other.removed_by] ?? other.removed_by}`));
        else if (typeof other.sampled_logprob === "number") item.append(` → ${percent(other.sampled_logprob)}`);
      }
      return row;
    }

    probability(row, logprob) {
      const cell = row.insertCell();
      if (typeof logprob !== "number") return cell;
      cell.className = "probability";
      cell.style.setProperty("--probability", Math.exp(logprob).toFixed(4));
      cell.title = `log-probability ${signed(logprob, 4)}`;
      cell.textContent = percent(logprob);
      return cell;
    }
  }

  // Comma-separated values as RFC 4180 has them. A text with which a spreadsheet would begin to calculate
  // gets an apostrophe before it, which spreadsheets read as "this is a text".
  function tableAsCsv(tokens) {
    const field = (value) => {
      if (value === null || value === undefined) return "";
      if (typeof value !== "string") return String(value);
      const safe = /^\s*[=+\-@|%]|^[\t\r\n]/.test(value) ? `'${value}` : value;
      return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    const most = Math.max(0, ...tokens.map(({ alternatives }) => alternatives.length));
    const columns = ["token_id", "text", "logprob", "sampled_logprob", "rank", "filtered_away"];
    const ofOther = ["token_id", "text", "logprob", "sampled_logprob", "removed_by"];
    const head = ["index", ...columns];
    for (let i = 1; i <= most; i += 1) head.push(...ofOther.map((name) => `alternative_${i}_${name}`));
    const rows = tokens.map((token, index) => {
      const row = [index, ...columns.map((name) => token[name])];
      for (let i = 0; i < most; i += 1) row.push(...ofOther.map((name) => token.alternatives[i]?.[name]));
      return row;
    });
    return [head, ...rows].map((row) => `${row.map(field).join(",")}\r\n`).join("");
  }

  const tables = {
    prompt: new TokenTable($('[data-of="prompt"]'), false),
    completion: new TokenTable($('[data-of="completion"]'), true),
  };

  $(".which select").addEventListener("change", (event) => {
    const index = Number(event.target.value);
    tables.completion.show(request.completions[index].tokens, index);
  });

  function close() {
    request = null;
    panel.hidden = true;
  }
  on("session", close);

  $('[data-action="close"]').addEventListener("click", () => {
    close();
    document.querySelector(".editor textarea")?.focus({ preventScroll: true });
  });

  // The sheet gives room to what is shown below it.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--results-height", `${panel.offsetHeight}px`);
  }).observe(panel);
}
