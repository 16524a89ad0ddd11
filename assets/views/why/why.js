// Why did it say that: token scores of one continuation after several prompts, and the influence of the parts
// of a prompt. Queries and results stay in the visitor's browser. Texts are untrusted and inserted as text
// only.

import { bringIntoView, finder, isDialogOpen, isEscape, isRunKey, onPress, showRunKey, swapButtons, typeInto } from "../../components/dom.js";
import { leaveOut, noticesOf } from "../../components/notice.js";
import { shownView } from "../../components/page.js";
import { on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { MOST_TAKEN, TOO_LONG, sentOf } from "../../core/long_text.js";
import { Run } from "../../core/run.js";
import { state } from "../../core/state.js";
import { readJSON, write } from "../../core/storage.js";
import { Comparison, panelOf } from "./comparison.js";
import { PartsPanel } from "./parts.js";

const PAUSE_MS = 300;
const STORAGE = "gptj-playground/why";
const SILENT = t("why.silent");

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const $ = finder(element);
  const { showNotice, hideNotice } = noticesOf(element);
  const button = (/** @type {string} */ action) => $(`[data-action="${action}"]`, HTMLButtonElement);
  const promptField = $("#why-prompt", HTMLTextAreaElement);
  const continuationField = $("#why-continuation", HTMLTextAreaElement);
  const severalField = $("#why-several", HTMLTextAreaElement);
  const kindField = $('[data-field="kind"]', HTMLSelectElement);
  const progress = $(".why-progress");
  const partsPanel = panelOf(element, "parts");
  const comparePanel = panelOf(element, "compare");

  /** @type {string | null} */
  let scoredText = ""; // the scored continuation
  let generated = /** @type {{text: string, ids: number[]}[]} */ ([]); // the completions of the editor's latest request
  let taken = { text: "", ids: /** @type {number[]} */ ([]) }; // the selected continuation, with the model's tokens if known
  let running = /** @type {Run | null} */ (null); // the running request
  /** @type {{what: string, done: number, all: number, open: import("./comparison.js").Line[], before: any, asGenerated?: boolean,
   *         isCut: boolean[], leavingOut: () => void}} the running or the last request; `isCut`: of which prompts only the end was sent; `leavingOut` repeats it with truncated prompts */
  let asked = { what: "", done: 0, all: 0, open: [], before: null, isCut: [], leavingOut() {} };
  let planned = /** @type {any} */ (null); // the sizes of the server's last answer
  let plannedFor = /** @type {any} */ (""); // the value of that control for which the server was asked for the sizes

  const parts = new PartsPanel(partsPanel);
  const comparison = new Comparison(comparePanel, {
    edit(prompt) {
      typeInto(promptField, prompt);
      promptField.focus(); // also if it was empty
    },
    leave: () => promptField.focus({ preventScroll: true }),
    changed() {
      showComparison();
      save();
    },
    isRunning: () => running !== null,
  });

  function showComparison() {
    comparison.show();
    showEmpty();
  }

  function showParts() {
    parts.show();
    showEmpty();
  }

  function showEmpty() {
    $(".why-empty").hidden = comparison.lines.length > 0 || parts.hasResult;
  }

  // ---- requests

  /** @param {"compare" | "attribute"} what @param {string[]} prompts @param {any} truncate */
  function ask(what, prompts, truncate) {
    hideNotice();
    const sent = prompts.map((prompt) => sentOf(prompt, truncate));
    asked.isCut = sent.map((text, i) => text !== prompts[i]);
    running = new Run({
      records: readRecords,
      stop: (id) => server.stop(id),
      silent: () => end(SILENT),
    });
    showRunning(true);
    showProgress();
    const continuation = continuationField.value;
    trigger("ask", {
      id: running.id,
      what,
      continuation,
      token_ids: taken.text === continuation ? taken.ids : [],
      truncate,
      ...(what === "compare" ? { prompts: sent } : { prompt: sent[0], kind: kindField.value }),
    });
  }

  const ownTruncate = () => state.controls.truncate ?? "error";

  /** Score these prompts, and all others again if the continuation has changed. @param {string[]} prompts */
  function compare(prompts, truncate = ownTruncate()) {
    if (running) return;
    const before = { lines: [...comparison.lines], chosen: comparison.chosen };
    if (continuationField.value !== scoredText) for (const line of comparison.lines) line.score = null;
    scoredText = continuationField.value;
    comparison.chosen = prompts.map((prompt) => comparison.lineFor(prompt)).at(-1) ?? null;
    const open = comparison.lines.filter(({ score }) => !score);
    if (!open.length) return showComparison();
    comparePanel.parentElement?.insertBefore(comparePanel, partsPanel);
    asked = { what: "compare", done: 0, all: open.length, open, before, isCut: [], leavingOut: () => compare(prompts, "left") };
    ask("compare", open.map(({ prompt }) => prompt), truncate);
    showComparison();
    save();
  }

  function attribute(truncate = ownTruncate()) {
    if (running) return;
    partsPanel.parentElement?.insertBefore(partsPanel, comparePanel);
    asked = { what: "attribute", done: 0, all: 0, open: [], before: null, isCut: [], leavingOut: () => attribute("left") };
    ask("attribute", [promptField.value], truncate);
  }

  function rankSeveral() {
    const prompts = severalField.value.split("\n").filter((line) => line.trim()).map((line) => line.replaceAll("\\n", "\n"));
    if (!prompts.length) return showNotice(t("why.no_prompts"));
    comparison.bestFirst.checked = true;
    compare([...new Set(prompts)]);
  }

  /** @param {any[]} records */
  function readRecords(records) {
    for (const record of records) if (running) handlers[record.event]?.(record);
    if (running) showProgress();
    if (asked.what === "compare") showComparison();
  }

  /** @type {Record<string, (record: any) => void>} */
  const handlers = {
    continuation(record) {
      asked.asGenerated = record.as_generated;
    },
    scored(record) {
      asked.open[record.place].score = { ...record, isCut: asked.isCut[record.place] };
      asked.done += 1;
    },
    parts(record) {
      parts.set({ parts: record.parts, tokens: record.tokens, dropped: record.dropped_tokens, isCut: asked.isCut[0], whole: null, without: [] });
      asked.all = record.parts.length + 1;
    },
    without({ part, logprobs }) {
      if (part < 0) parts.found.whole = logprobs;
      else parts.found.without[part] = logprobs;
      asked.done += 1;
    },
    refused({ message, code }) {
      end(message);
      // the continuation is always sent whole
      if (TOO_LONG.includes(code) && continuationField.value.length <= MOST_TAKEN) showNotice(message, leaveOut(asked.leavingOut));
    },
    end: ({ stopped }) => end(stopped ? "" : null),
  };

  /** @param {string | null} message null on success, empty if the visitor stopped it */
  function end(message) {
    running?.end();
    running = null;
    showRunning(false);
    progress.textContent = message === "" ? t("why.stopped", { done: asked.done, all: asked.all }) : "";
    if (message) showNotice(message);
    if (asked.what === "compare") endComparison(message);
    else endAttribution(message);
    save();
  }

  /** @param {string | null} message */
  function endComparison(message) {
    if (message && !asked.done) {
      // no result: restore the lines
      comparison.lines = asked.before.lines;
      comparison.chosen = asked.before.chosen;
      if (comparison.lines.some(({ score }) => !score)) scoredText = null;
    }
    if (message === null) {
      const how = asked.asGenerated ? t("why.as_generated") : "";
      progress.textContent = `${comparison.summary}${how}`.replace(/^./, (c) => c.toUpperCase());
    }
    showComparison();
    if (message === null) bringIntoView(comparePanel);
  }

  /** @param {string | null} message */
  function endAttribution(message) {
    if (!parts.found.whole) parts.set(null);
    showParts();
    if (message !== null) return;
    progress.textContent = t("why.parts_left_out", { count: parts.found.parts.length });
    bringIntoView(partsPanel);
  }

  function stop() {
    running?.stop();
    if (running) showProgress();
  }

  function showProgress() {
    const { done, all } = asked;
    progress.textContent = running?.isStopping ? t("run.stopping") : all > 1 ? t("why.reading_of", { done, all }) : t("why.reading");
  }

  /** @param {boolean} isRunning */
  function showRunning(isRunning) {
    swapButtons(button(isRunning ? "compare" : "stop"), button(isRunning ? "stop" : "compare"));
    for (const action of ["attribute", "several"]) button(action).disabled = isRunning;
  }

  watch("value", () => running?.receive(props.value));

  // ---- typing

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  function typed() {
    clearTimeout(timer);
    timer = setTimeout(count, PAUSE_MS);
    save();
  }

  async function count() {
    const typed = { prompt: promptField.value, continuation: continuationField.value, kind: kindField.value };
    plannedFor = ownTruncate();
    const answer = await server.plan({ ...typed, prompt: sentOf(typed.prompt, plannedFor) }).catch(() => null); // the next change retries
    if (!answer || typed.prompt !== promptField.value || typed.continuation !== continuationField.value) return;
    planned = answer;
    showSizes();
  }

  function showSizes() {
    const said = [];
    const { prompt_tokens, continuation_tokens, context_length, parts: count, parts_read, message } = planned ?? {};
    if (message) said.push(message);
    else if (sentOf(promptField.value, plannedFor) !== promptField.value) said.push(t("why.only_end"));
    else if (continuation_tokens || prompt_tokens) {
      const sum = Math.max(1, prompt_tokens) + continuation_tokens;
      said.push(t("why.sizes", { count: prompt_tokens, continuation: continuation_tokens }));
      if (sum > context_length) said.push(t("why.too_long", { sum, context: context_length }));
    }
    const [last, first] = [promptField.value.slice(-1), continuationField.value.slice(0, 1)];
    if (/\w/.test(last) && /\w/.test(first)) {
      said.push(t("why.mid_word"));
    } else if (/[ \t]/.test(last) && /\w/.test(first)) {
      said.push(t("why.ends_in_space"));
    }
    $("#why-sizes").textContent = said.join(" ");
    $(".cost").textContent =
      !message && count && continuation_tokens ? t("why.cost", { count, tokens: parts_read }) : "";
  }

  for (const field of [promptField, continuationField, severalField]) field.addEventListener("input", typed);
  kindField.addEventListener("change", typed);

  function take() {
    const { prompt, continuation } = state.lastRun();
    if (!continuation) {
      return showNotice(t("why.nothing_written"));
    }
    hideNotice();
    if (running) return;
    typeInto(continuationField, continuation);
    typeInto(promptField, prompt);
    const ids = generated.find((one) => one?.text === continuation)?.ids ?? [];
    if (continuation !== scoredText || String(ids) !== String(taken.ids)) {
      comparison.clear();
      parts.set(null);
      showParts();
    }
    taken = { text: continuation, ids };
    save();
    compare([prompt]);
  }

  // The tokens that the model generated, if the editor's request reported them.
  on("record", (record) => {
    if (record.event === "begin") generated = [];
    if (record.event !== "text" && record.event !== "tokens") return;
    const completion = (generated[record.index] ??= { text: "", ids: [] });
    if (record.event === "text") completion.text += record.text;
    else completion.ids.push(...record.tokens.map((/** @type {Token} */ { token_id }) => token_id));
  });

  // ---- storage

  function save() {
    const { lines, names, reference, bestFirst } = comparison;
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
      reference: lines.findIndex((line) => line === reference),
    };
    write(STORAGE, JSON.stringify(kept)); // if storage is full, the page keeps its state
  }

  function restore() {
    const kept = readJSON(STORAGE);
    if (kept?.version !== 1) return;
    const text = (/** @type {any} */ value) => (typeof value === "string" ? value : "");
    promptField.value = text(kept.prompt);
    continuationField.value = text(kept.continuation);
    severalField.value = text(kept.several);
    if (typeof kept.taken?.text === "string" && Array.isArray(kept.taken.ids)) taken = kept.taken;
    if ([...kindField.options].some(({ value }) => value === kept.kind)) kindField.value = kept.kind;
    comparison.bestFirst.checked = kept.bestFirst === true;
    const lines = Array.isArray(kept.lines) ? kept.lines : [];
    comparison.lines = lines
      .filter((/** @type {any} */ line) => typeof line?.name === "string" && typeof line?.prompt === "string")
      .slice(0, props.most_prompts)
      .map((/** @type {any} */ { name, prompt }) => ({ name, prompt, score: null }));
    comparison.names = Number.isInteger(kept.names) ? kept.names : comparison.lines.length;
    comparison.reference = comparison.lines[kept.reference] ?? null;
  }

  // ---- input

  const score = () => compare([promptField.value]);
  onPress(element, {
    take,
    compare: score,
    attribute: () => attribute(),
    several: rankSeveral,
    stop,
    dismiss: hideNotice,
    clear() {
      if (running || !comparison.reference) return;
      comparison.lines = [comparison.reference];
      showComparison();
      save();
    },
    "close-parts"() {
      parts.set(null);
      showParts();
      button("attribute").focus();
    },
  });

  document.addEventListener("keydown", (event) => {
    if (shownView() !== "why" || isDialogOpen()) return;
    if (isRunKey(event)) {
      event.preventDefault();
      if (document.activeElement === severalField) rankSeveral();
      else score();
    } else if (isEscape(event) && running) {
      event.preventDefault();
      stop();
    }
  });

  showRunKey(element);
  restore();
  showComparison();
  showParts();
  on("controls", () => plannedFor && plannedFor !== ownTruncate() && count()); // another text may be sent
  on("status", ({ state: modelState }) => {
    if (modelState === "ready" && !planned && (promptField.value || continuationField.value)) count();
  });
}
