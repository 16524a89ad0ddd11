// Why did it say that: one continuation after several prompts, token by token, and the parts of a prompt
// that made it likely. Everything asked and answered is here, in the visitor's browser; text of any origin
// gets on the page as text only.

import { make, visible } from "../../components/dom.js";
import { shownView } from "../../components/page.js";
import { on } from "../../core/events.js";
import { number, percent, plural, signed } from "../../core/format.js";
import { Run } from "../../core/run.js";
import { state } from "../../core/state.js";

const PAUSE_MS = 300;
const FULL_COLOUR = Math.log(16); // a change by this factor has the full colour
const STORAGE = "gptj-playground/why";
const EXCERPT = 150; // characters of a prompt in the table
const AROUND = 4; // words shown before and after what differs

export function mount({ element, trigger, props, server, watch }) {
  const $ = (selector) => element.querySelector(selector);
  const button = (action) => $(`[data-action="${action}"]`);

  const promptField = $("#why-prompt");
  const continuationField = $("#why-continuation");
  const severalField = $("#why-several");
  const kindField = $('[data-field="kind"]');
  const bestFirst = $('[data-field="best-first"]');
  const notice = $(".notice");

  let lines = []; // the prompts that were scored: {name, prompt, score}, score null until it is known
  let names = 0;
  let reference = null; // the line that the others are compared with
  let chosen = null; // the line whose words are shown
  let scoredText = ""; // the continuation that the scores are of
  let generated = []; // the completions of the editor's latest request: {text, ids}
  let taken = { text: "", ids: [] }; // the continuation that was taken, with the model's tokens where known
  let running = null; // the request under way
  let attribution = null; // {parts, tokens, whole, without: [logprobs], part, token}
  let planned = null; // the sizes as last told

  // ---- numbers as words

  // What a difference of log-probabilities makes of a probability.
  function change(delta) {
    const factor = Math.exp(Math.abs(delta));
    if (factor < 1.005) return "just as likely";
    const digits = factor < 10 ? factor.toFixed(factor < 1.1 ? 2 : 1) : null;
    const times = digits ?? (factor < 1e6 ? number(Math.round(factor)) : power(Math.abs(delta)));
    return delta > 0 ? `${times} times as likely` : `${times} times less likely`;
  }

  // A number too large to say, by its logarithm: "2 × 10^8".
  function power(logarithm) {
    const tens = logarithm / Math.LN10;
    const exponent = Math.floor(tens);
    return `${(10 ** (tens - exponent)).toFixed(1)} × 10^${exponent}`;
  }

  // The same in a sentence that names what it is compared with.
  const against = (delta, name) => `${change(delta)} ${Math.exp(delta) > 0.995 ? "as" : "than"} after ${name}`;

  const difference = (delta) => `${delta > 0 ? "+" : ""}${signed(delta, 2)}`;

  // ---- a text in coloured pieces, which are looked at one at a time

  const SIGNS = { "\n": "↵\n", "\t": "⇥\t" };
  const shown = (text) =>
    text.replace(/\p{C}/gu, (c) => SIGNS[c] ?? `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);

  class Ribbon {
    // `look(index)` fills the line that tells of a piece, `choose(index)` is a press on it.
    constructor(name, { look, choose = () => {} }) {
      this.box = $(`[data-ribbon="${name}"]`);
      this.detail = this.box.closest(".why-panel").querySelector(".why-detail");
      this.look = look;
      this.choose = choose;
      this.at = 0;
      const place = (event) => {
        const piece = event.target.closest?.("[data-index]");
        return piece ? Number(piece.dataset.index) : -1;
      };
      this.box.addEventListener("mouseover", (event) => place(event) >= 0 && this.show(place(event)));
      this.box.addEventListener("focusin", (event) => place(event) >= 0 && this.show(place(event)));
      this.box.addEventListener("click", (event) => {
        const index = place(event);
        if (index < 0) return;
        this.goTo(index);
        this.choose(index);
      });
      this.box.addEventListener("keydown", (event) => {
        const last = this.box.children.length - 1;
        const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
        if (event.key in steps) {
          event.preventDefault();
          this.goTo(Math.max(0, Math.min(last, this.at + steps[event.key])));
        } else if ((event.key === "Enter" || event.key === " ") && !event.ctrlKey && !event.metaKey) {
          event.preventDefault();
          this.choose(this.at);
        }
      });
    }

    // `pieces`: {text, label, strength (-1 to 1, null: no colour), chosen}
    fill(pieces) {
      const spans = this.box.children;
      pieces.forEach(({ text, label, strength, chosen: isChosen }, index) => {
        let span = spans[index];
        if (!span) {
          span = this.box.appendChild(make("span", ""));
          span.setAttribute("role", "option");
          span.dataset.index = index;
        }
        if (span.textContent !== shown(text)) span.textContent = shown(text);
        span.setAttribute("aria-label", label);
        span.setAttribute("aria-selected", String(Boolean(isChosen)));
        span.className = !strength ? "" : strength > 0 ? "is-more" : "is-less";
        // small changes are seen too
        span.style.setProperty("--strength", Math.min(1, Math.abs(strength ?? 0) ** 0.7).toFixed(3));
      });
      while (spans.length > pieces.length) spans[spans.length - 1].remove();
      this.at = Math.min(this.at, Math.max(0, pieces.length - 1));
      this.rove();
    }

    // One piece at a time can be reached with Tab, the others with the arrow keys.
    rove() {
      for (const span of this.box.children) span.tabIndex = Number(span.dataset.index) === this.at ? 0 : -1;
    }

    goTo(index) {
      this.at = index;
      this.rove();
      this.box.children[index]?.focus({ preventScroll: false });
    }

    show(index) {
      this.shown = index;
      this.detail.replaceChildren();
      this.look(index, this.detail);
    }

    // What is told of a piece has changed.
    refresh() {
      if (this.shown !== undefined && this.shown < this.box.children.length) this.show(this.shown);
      else this.detail.replaceChildren();
    }
  }

  // The scale under a ribbon.
  function showScale(scale, less, more) {
    scale.replaceChildren(make("span", "", less), make("i", "ramp"), make("span", "", more));
  }

  // ---- comparing prompts

  const comparePanel = $('[data-panel="compare"]');

  const compared = new Ribbon("compared", {
    look(index, line) {
      const [now, before] = [chosen.score.tokens[index], reference.score?.tokens[index]];
      line.appendChild(visible(now.text));
      if (chosen === reference || !before) {
        line.append(` ${percent(now.logprob)} after ${chosen.name}, rank ${number(now.rank)}, log-probability ${signed(now.logprob, 2)}. `);
      } else {
        const delta = now.logprob - before.logprob;
        line.append(" ");
        line.appendChild(make("b", "", change(delta)));
        line.append(
          `: ${percent(before.logprob)} → ${percent(now.logprob)}, log-probability ${difference(delta)}, ` +
            `rank ${number(before.rank)} → ${number(now.rank)}. `,
        );
      }
      line.append("Likeliest here: ");
      now.alternatives.forEach((other, i) => {
        line.append(i ? ", " : "");
        line.appendChild(visible(other.text));
        line.append(` ${percent(other.logprob)}`);
      });
    },
  });

  function showComparison() {
    const scored = lines.filter(({ score }) => score);
    comparePanel.hidden = lines.length === 0;
    showEmpty();
    if (!lines.length) return;
    if (!lines.includes(reference)) reference = lines[0];
    if (!lines.includes(chosen)) chosen = reference;
    const isCompared = chosen !== reference && Boolean(reference.score) && Boolean(chosen.score);
    const title = comparePanel.querySelector("h3");
    if (!chosen.score) title.textContent = `${chosen.name} is not scored`;
    else if (isCompared) {
      const delta = chosen.score.sum_logprob - reference.score.sum_logprob;
      title.textContent = `After ${chosen.name} the continuation is ${against(delta, reference.name)}`;
    } else title.textContent = `The continuation after ${chosen.name}`;
    const scale = comparePanel.querySelector(".why-scale");
    scale.hidden = !isCompared;
    if (isCompared) showScale(scale, change(-FULL_COLOUR), change(FULL_COLOUR));
    compared.fill(
      (chosen.score?.tokens ?? []).map((now, index) => {
        const delta = isCompared ? now.logprob - reference.score.tokens[index].logprob : null;
        const told = delta === null ? percent(now.logprob) : `${change(delta)}, now ${percent(now.logprob)}`;
        return { text: now.text, label: `${shown(now.text)}: ${told}`, strength: delta === null ? null : delta / FULL_COLOUR };
      }),
    );
    compared.refresh();
    if (!compared.detail.childNodes.length && chosen.score) {
      compared.detail.textContent =
        scored.length > 1
          ? "Point at a word, or walk with the arrow keys, for its numbers."
          : "Now change the prompt and press Score again: the colours show what that does. Point at a word for its numbers.";
    }
    showTable();
  }

  function showTable() {
    const table = comparePanel.querySelector("table");
    const focused = document.activeElement?.closest?.("tbody") ? { line: document.activeElement.closest("tbody").line, action: document.activeElement.dataset.row } : null;
    table.querySelectorAll("tbody").forEach((body) => body.remove());
    comparePanel.querySelector(".why-order").hidden = lines.length < 2;
    table.querySelector(".why-against").textContent = `Against ${reference.name}`;
    const worth = ({ score }) => score?.sum_logprob ?? -Infinity;
    const inOrder = bestFirst.checked ? [...lines].sort((a, b) => worth(b) - worth(a) || 0) : lines;
    for (const line of inOrder) {
      const body = table.appendChild(make("tbody", line === chosen ? "is-chosen" : ""));
      body.line = line;
      const head = body.insertRow().appendChild(make("th"));
      head.scope = "rowgroup";
      head.colSpan = 4;
      const pick = head.appendChild(make("button", "why-pick"));
      pick.type = "button";
      pick.dataset.row = "pick";
      pick.setAttribute("aria-pressed", String(line === chosen));
      pick.appendChild(make("span", "why-name", line.name));
      pick.append(" ");
      pick.appendChild(excerpt(line));
      const row = body.insertRow();
      const { score } = line;
      row.insertCell().textContent = score ? signed(score.sum_logprob, 2) : running ? "…" : "not scored";
      row.insertCell().textContent = score ? signed(score.mean_logprob, 3) : "";
      row.insertCell().textContent = score ? score.bits_per_byte.toFixed(3) : "";
      const cell = row.insertCell();
      const told = cell.appendChild(make("span", "why-change"));
      if (line === reference) told.textContent = lines.length > 1 ? "the reference" : "";
      else if (score && reference.score) {
        const delta = score.sum_logprob - reference.score.sum_logprob;
        told.textContent = change(delta);
        told.classList.add(delta > 0 ? "is-more" : "is-less");
      }
      if (score?.dropped_tokens) cell.appendChild(make("small", "", ` its first ${plural(score.dropped_tokens, "token")} left out`));
      const hands = cell.appendChild(make("span", "why-hands"));
      const hand = (name, text, label, title) => {
        const one = hands.appendChild(make("button", "quiet", text));
        one.type = "button";
        one.dataset.row = name;
        one.setAttribute("aria-label", `${label} ${line.name}`);
        one.title = title;
      };
      hand("edit", "Edit", "Edit", "Put this prompt into the field");
      if (line !== reference) hand("refer", "Compare with", "Compare with", "Compare the others with this prompt");
      hand("remove", "✕", "Remove", "Remove this line");
    }
    if (focused) {
      const body = [...table.tBodies].find(({ line }) => line === focused.line);
      (body?.querySelector(`[data-row="${focused.action}"]`) ?? body?.querySelector("button"))?.focus({ preventScroll: true });
    }
  }

  // The prompt in short: its end for the reference, for others what differs from that and a little around it.
  function excerpt(line) {
    const node = make("span", "why-excerpt");
    const { prompt } = line;
    if (!prompt) {
      node.appendChild(make("i", "", "nothing: the text begins here"));
      return node;
    }
    const runs = line === reference ? null : wordChanges(reference.prompt, prompt);
    if (!runs) {
      node.append(prompt.length > EXCERPT ? `… ${shown(prompt.slice(-EXCERPT).replace(/^\S*\s+/, ""))}` : shown(prompt));
      return node;
    }
    runs.forEach(([kind, words], i) => {
      if (kind !== "same") node.appendChild(make(kind, "", shown(words.join(""))));
      else {
        const [first, last] = [i === 0, i === runs.length - 1];
        const head = first ? 0 : AROUND;
        const tail = last ? 0 : AROUND;
        if (words.length <= head + tail + 1) node.append(shown(words.join("")));
        else node.append(`${shown(words.slice(0, head).join(""))}… ${shown(words.slice(words.length - tail).join(""))}`);
      }
    });
    return node;
  }

  // Two texts as runs of words ["same" | "del" | "ins", words]; null where they have little in common, or are
  // too long to be compared word by word.
  function wordChanges(before, after) {
    const [a, b] = [before.match(/\S*\s*/g), after.match(/\S*\s*/g)];
    let [start, end] = [0, 0];
    while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
    while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
    const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
    if (x.length * y.length > 90_000) return null;
    // longest common subsequence
    const longest = Array.from({ length: x.length + 1 }, () => new Uint16Array(y.length + 1));
    for (let i = x.length - 1; i >= 0; i -= 1) {
      for (let j = y.length - 1; j >= 0; j -= 1) {
        longest[i][j] = x[i] === y[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
      }
    }
    if (start + end + longest[0][0] < 0.3 * b.length) return null;
    const runs = [];
    const add = (kind, words) => {
      const last = runs[runs.length - 1];
      if (last?.[0] === kind) last[1].push(...words);
      else if (words.length) runs.push([kind, [...words]]);
    };
    add("same", a.slice(0, start));
    let [i, j] = [0, 0];
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) {
        add("same", [x[i]]);
        i += 1;
        j += 1;
      } else if (i < x.length && (j === y.length || longest[i + 1][j] >= longest[i][j + 1])) {
        add("del", [x[i]]);
        i += 1;
      } else {
        add("ins", [y[j]]);
        j += 1;
      }
    }
    add("same", a.slice(a.length - end));
    return runs;
  }

  function lineFor(prompt) {
    let line = lines.find((one) => one.prompt === prompt);
    if (!line) {
      line = { name: `Prompt ${(names += 1)}`, prompt, score: null };
      lines.push(line);
    }
    return line;
  }

  comparePanel.querySelector("table").addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-row]");
    if (!pressed) return;
    const { line } = pressed.closest("tbody");
    if (pressed.dataset.row === "pick") chosen = line;
    else if (pressed.dataset.row === "refer") reference = line;
    else if (pressed.dataset.row === "edit") {
      promptField.value = line.prompt;
      promptField.focus();
      typed();
    } else if (!running) {
      lines = lines.filter((one) => one !== line);
      promptField.focus({ preventScroll: true });
    }
    showComparison();
    save();
  });

  bestFirst.addEventListener("change", () => {
    showTable();
    save();
  });

  // ---- the parts of a prompt

  const partsPanel = $('[data-panel="parts"]');
  const says = partsPanel.querySelector(".why-says");

  // How much log-probability a part gave to a token, or to all of them.
  function influence(part, token) {
    const without = attribution.without[part];
    if (!without || !attribution.whole) return 0;
    if (token !== null) return attribution.whole[token] - without[token];
    return attribution.whole.reduce((sum, logprob, i) => sum + logprob - without[i], 0);
  }

  const partRibbon = new Ribbon("parts", {
    look(part, line) {
      line.append("Without ");
      line.appendChild(visible(clip(attribution.parts[part])));
      const of = attribution.token === null ? "the continuation" : "the word ";
      line.append(` ${of}`);
      if (attribution.token !== null) line.appendChild(visible(attribution.tokens[attribution.token].text));
      line.append(" is ");
      const delta = -influence(part, attribution.token);
      line.appendChild(make("b", "", change(delta)));
      line.append(`, log-probability ${difference(delta)}.`);
    },
    choose(part) {
      attribution.part = attribution.part === part ? null : part;
      attribution.token = null;
      showParts();
    },
  });

  const wordRibbon = new Ribbon("attributed", {
    look(token, line) {
      line.appendChild(visible(attribution.tokens[token].text));
      line.append(` ${percent(attribution.whole[token])} after the whole prompt`);
      if (attribution.part !== null) {
        const delta = -influence(attribution.part, token);
        line.append("; without ");
        line.appendChild(visible(clip(attribution.parts[attribution.part])));
        line.append(` ${percent(attribution.whole[token] + delta)}, `);
        line.appendChild(make("b", "", change(delta)));
      }
      line.append(".");
    },
    choose(token) {
      attribution.token = attribution.token === token ? null : token;
      attribution.part = null;
      showParts();
    },
  });

  const clip = (text) => (text.length > 90 ? `${text.slice(0, 44)} … ${text.slice(-40)}` : text);

  function showParts() {
    partsPanel.hidden = !attribution;
    showEmpty();
    if (!attribution) return;
    const { parts, tokens, whole, part, token } = attribution;
    const values = parts.map((_, i) => influence(i, token));
    const span = Math.max(Math.LN2, ...values.map(Math.abs));
    partRibbon.fill(
      parts.map((text, i) => ({
        text,
        label: `${shown(clip(text))}: without it ${change(-values[i])}`,
        strength: values[i] / span,
        chosen: i === part,
      })),
    );
    wordRibbon.fill(
      tokens.map(({ text }, i) => {
        const delta = part === null ? null : -influence(part, i);
        const told = delta === null ? (whole ? percent(whole[i]) : "") : `without the part ${change(delta)}`;
        return { text, label: `${shown(text)}: ${told}`, strength: delta === null ? null : -delta / FULL_COLOUR, chosen: i === token };
      }),
    );
    says.replaceChildren();
    if (part !== null) {
      says.append("What ");
      says.appendChild(visible(clip(parts[part])));
      says.append(" does for each word of the continuation. Press it again to let go.");
    } else if (token !== null) {
      says.append("What each part does for the word ");
      says.appendChild(visible(tokens[token].text));
      says.append(". Press it again to let go.");
    } else {
      says.append("Coloured by what each part does for the whole continuation. Press a part to see for which words, a word to see which parts.");
    }
    if (attribution.dropped) says.append(` The prompt's first ${plural(attribution.dropped, "token")} did not fit and were left out.`);
    const most = change(part === null ? span : FULL_COLOUR);
    showScale(partsPanel.querySelector(".why-scale"), `makes it ${most.replace("as likely", "less likely")}`, most);
    partRibbon.detail.textContent = "Point at a part or a word, or walk with the arrow keys, for its numbers.";
  }

  function showEmpty() {
    $(".why-empty").hidden = lines.length > 0 || Boolean(attribution);
  }

  // ---- asking

  const idsOf = (text) => generated.find((one) => one?.text === text)?.ids ?? [];

  function ask(what, more) {
    hideNotice();
    running = new Run({
      records: readRecords,
      stop: (id) => server.stop(id),
      silent: () => end("The playground no longer answers. Your texts are kept; try again when the connection is back."),
    });
    Object.assign(running, { what, done: 0 });
    const focused = document.activeElement === button("compare");
    button("compare").hidden = true;
    button("stop").hidden = false;
    if (focused) button("stop").focus();
    for (const action of ["attribute", "several"]) button(action).disabled = true;
    const continuation = continuationField.value;
    showProgress();
    trigger("ask", {
      id: running.id,
      what,
      continuation,
      token_ids: taken.text === continuation ? taken.ids : [],
      truncate: state.controls.truncate ?? "error",
      ...more,
    });
  }

  // Score these prompts, and again those whose scores are of another continuation.
  function compare(prompts) {
    if (running) return;
    const before = { lines: [...lines], chosen };
    if (continuationField.value !== scoredText) for (const line of lines) line.score = null;
    const asked = prompts.map(lineFor);
    scoredText = continuationField.value;
    chosen = asked[asked.length - 1];
    const open = lines.filter(({ score }) => !score);
    if (!open.length) {
      showComparison();
      return;
    }
    comparePanel.parentElement.insertBefore(comparePanel, partsPanel);
    ask("compare", { prompts: open.map(({ prompt }) => prompt) });
    Object.assign(running, { open, before, all: open.length });
    showComparison();
    save();
  }

  function attribute() {
    if (running) return;
    partsPanel.parentElement.insertBefore(partsPanel, comparePanel);
    ask("attribute", { prompt: promptField.value, kind: kindField.value });
  }

  function rankSeveral() {
    const prompts = severalField.value.split("\n").filter((line) => line.trim()).map((line) => line.replaceAll("\\n", "\n"));
    if (!prompts.length) {
      showNotice("There is no prompt to rank. Write one a line.");
      return;
    }
    bestFirst.checked = true;
    compare([...new Set(prompts)]);
  }

  watch("value", () => running?.receive(props.value));

  function readRecords(records) {
    const { what } = running;
    for (const record of records) if (running) hear(record);
    if (running) showProgress();
    if (what === "compare") showComparison();
  }

  function hear(record) {
    switch (record.event) {
      case "continuation":
        running.asGenerated = record.as_generated;
        break;
      case "scored":
        running.open[record.place].score = record;
        running.done += 1;
        break;
      case "parts":
        attribution = {
          parts: record.parts, tokens: record.tokens, dropped: record.dropped_tokens,
          whole: null, without: [], part: null, token: null,
        };
        running.all = record.parts.length + 1;
        break;
      case "without":
        if (record.part < 0) attribution.whole = record.logprobs;
        else attribution.without[record.part] = record.logprobs;
        running.done += 1;
        break;
      case "refused":
        end(record.message);
        break;
      case "end":
        end(record.stopped ? "" : null);
        break;
    }
  }

  // `message` is null where all went well, empty where the visitor stopped it.
  function end(message) {
    running.end();
    const { what, open, asGenerated, done, all, before } = running;
    running = null;
    const focused = document.activeElement === button("stop");
    button("stop").hidden = true;
    button("compare").hidden = false;
    if (focused) button("compare").focus();
    for (const action of ["attribute", "several"]) button(action).disabled = false;
    const progress = $(".why-progress");
    progress.textContent = message === null ? "" : message === "" ? `Stopped: ${number(done)} of ${number(all ?? 0)} read.` : "";
    if (message) showNotice(message);
    if (what === "compare") {
      if (message && !done) {
        // nothing came of it: the lines are as they were
        lines = before.lines;
        chosen = before.chosen;
        if (lines.some(({ score }) => !score)) scoredText = null;
      }
      if (message === null) {
        const how = asGenerated ? "The continuation's tokens are those that the model wrote." : "";
        const told = chosen?.score && reference?.score && chosen !== reference
          ? `${against(chosen.score.sum_logprob - reference.score.sum_logprob, reference.name)}. ` : "";
        progress.textContent = `${told}${how}`.replace(/^./, (c) => c.toUpperCase());
      }
      showComparison();
    } else {
      if (attribution && !attribution.whole) attribution = null;
      showParts();
      if (message === null) {
        progress.textContent = `${plural(attribution.parts.length, "part")} left out in turn.`;
        if (matchMedia("(max-width: 960px)").matches) partsPanel.scrollIntoView({ block: "nearest" });
      }
    }
    save();
  }

  function stop() {
    if (!running) return;
    running.stop();
    showProgress();
  }

  function showProgress() {
    const { isStopping, done, all } = running;
    $(".why-progress").textContent = isStopping ? "Stopping…" : all > 1 ? `Reading: ${number(done)} of ${number(all)}` : "Reading…";
  }

  // ---- what is typed

  function typed() {
    clearTimeout(timer);
    timer = setTimeout(count, PAUSE_MS);
    save();
  }

  let timer = null;
  async function count() {
    const asked = { prompt: promptField.value, continuation: continuationField.value, kind: kindField.value };
    try {
      const answer = await server.plan(asked);
      if (asked.prompt !== promptField.value || asked.continuation !== continuationField.value) return;
      planned = answer;
      showSizes();
    } catch {
      // the next change asks again
    }
  }

  function showSizes() {
    const said = [];
    const { prompt_tokens, continuation_tokens, context_length, parts, parts_read, message } = planned ?? {};
    if (message) said.push(message);
    else if (continuation_tokens || prompt_tokens) {
      const sum = Math.max(1, prompt_tokens) + continuation_tokens;
      said.push(`${plural(prompt_tokens, "token")} before, ${number(continuation_tokens)} in the continuation.`);
      if (sum > context_length) said.push(`Together ${number(sum)}, which is more than the ${number(context_length)} that the model reads.`);
    }
    const [last, first] = [promptField.value.slice(-1), continuationField.value.slice(0, 1)];
    if (last && first && /\w/.test(last) && /\w/.test(first)) {
      said.push("The continuation begins in the middle of a word: put a space before it.");
    } else if (/[ \t]/.test(last) && /\w/.test(first)) {
      said.push("The prompt ends in a space, which the model expects at the beginning of the continuation.");
    }
    $("#why-sizes").textContent = said.join(" ");
    $(".cost").textContent =
      planned && !message && parts && continuation_tokens
        ? `${plural(parts, "part")}: the model reads about ${number(parts_read)} tokens.`
        : "";
  }

  for (const field of [promptField, continuationField, severalField]) field.addEventListener("input", typed);
  kindField.addEventListener("change", typed);

  function take() {
    const { prompt, continuation } = state.lastRun();
    if (!continuation) {
      showNotice("The model has written nothing yet in the editor. Generate something there, or write a continuation here.");
      return;
    }
    hideNotice();
    if (running) return;
    promptField.value = prompt;
    continuationField.value = continuation;
    const ids = idsOf(continuation);
    if (continuation !== scoredText || String(ids) !== String(taken.ids)) {
      lines = [];
      names = 0;
      reference = chosen = attribution = null;
      showParts();
    }
    taken = { text: continuation, ids };
    typed();
    compare([prompt]);
  }

  // The tokens that the model chose, where the editor's request told them.
  on("record", (record) => {
    if (record.event === "begin") generated = [];
    const completion = (record.event === "text" || record.event === "tokens") && (generated[record.index] ??= { text: "", ids: [] });
    if (record.event === "text") completion.text += record.text;
    if (record.event === "tokens") completion.ids.push(...record.tokens.map(({ token_id }) => token_id));
  });

  // ---- keeping

  function save() {
    const kept = {
      version: 1,
      prompt: promptField.value,
      continuation: continuationField.value,
      taken,
      several: severalField.value,
      kind: kindField.value,
      bestFirst: bestFirst.checked,
      lines: lines.map(({ name, prompt }) => ({ name, prompt })),
      names,
      reference: lines.indexOf(reference),
    };
    try {
      localStorage.setItem(STORAGE, JSON.stringify(kept));
    } catch {
      // no storage, or no room in it: what is on the page stays
    }
  }

  function restore() {
    let kept;
    try {
      kept = JSON.parse(localStorage.getItem(STORAGE));
    } catch {
      return;
    }
    if (kept?.version !== 1) return;
    const text = (value) => (typeof value === "string" ? value : "");
    promptField.value = text(kept.prompt);
    continuationField.value = text(kept.continuation);
    severalField.value = text(kept.several);
    if (typeof kept.taken?.text === "string" && Array.isArray(kept.taken.ids)) taken = kept.taken;
    if ([...kindField.options].some(({ value }) => value === kept.kind)) kindField.value = kept.kind;
    bestFirst.checked = kept.bestFirst === true;
    if (Array.isArray(kept.lines)) {
      lines = kept.lines
        .filter((line) => typeof line?.name === "string" && typeof line?.prompt === "string")
        .slice(0, props.most_prompts)
        .map(({ name, prompt }) => ({ name, prompt, score: null }));
    }
    names = Number.isInteger(kept.names) ? kept.names : lines.length;
    reference = lines[kept.reference] ?? null;
  }

  // ---- messages and hands

  function showNotice(message) {
    notice.querySelector("p").textContent = message;
    notice.hidden = false;
  }

  function hideNotice() {
    notice.hidden = true;
  }

  const actions = {
    take,
    compare: () => compare([promptField.value]),
    attribute,
    several: rankSeveral,
    stop,
    dismiss: hideNotice,
    clear() {
      if (running) return;
      lines = [reference];
      showComparison();
      save();
    },
    "close-parts"() {
      attribution = null;
      showParts();
      button("attribute").focus();
    },
  };

  element.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-action]");
    if (pressed && !pressed.disabled) actions[pressed.dataset.action]();
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "why") return;
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (document.activeElement === severalField) rankSeveral();
      else actions.compare();
    } else if (event.key === "Escape" && running) {
      event.preventDefault();
      stop();
    }
  });

  if (/Mac|iPhone|iPad/.test(navigator.platform)) button("compare").querySelector("kbd").textContent = "⌘⏎";
  restore();
  showComparison();
  showParts();
  if (promptField.value || continuationField.value) {
    if (state.status?.state === "ready") count();
    else {
      const whenReady = ({ detail }) => {
        if (detail.state !== "ready" || planned) return;
        count();
      };
      document.addEventListener("gptj:status", whenReady);
    }
  }
}
