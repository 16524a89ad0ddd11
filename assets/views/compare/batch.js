// A template and a file of rows, and a continuation for each of them. The file and the results live in the visitor's
// browser, which sends the rows in parts: a part that was lost with the connection is sent again, with the same seeds.

import { bringIntoView, download, editorsField, find, finder, isDialogOpen, isEscape, isRunKey, onPress, setText, showRunKey, swapButtons, typeInto } from "../../components/dom.js";
import { leaveOut, noticesOf } from "../../components/notice.js";
import { show, shownView } from "../../components/page.js";
import { asTemplate, Batch, secondsLeft } from "../../core/batch.js";
import { head } from "../../core/characters.js";
import { emit, on } from "../../core/events.js";
import { keepBatch, keepFile, restoreBatch } from "../../core/kept_batch.js";
import { t, translated } from "../../core/i18n.js";
import { TOO_LONG } from "../../core/long_text.js";
import { PLACEHOLDER } from "../../core/own_scaffolds.js";
import { Run } from "../../core/run.js";
import { state } from "../../core/state.js";
import { read, write } from "../../core/storage.js";
import { FileField } from "./batch_file.js";
import { BatchRows } from "./batch_rows.js";
import { describeSettings, grow } from "./form.js";

const PLAN_PAUSE_MS = 250;
const SAVE_MS = 5000;
const PART_ROWS = 100;
const PART_OF_SLOTS = 8; // rows per slot, so that few slots are empty at the end of a part
const PART_CHARACTERS = 400_000; // of the values: a part must fit into the body of a request
const MOST_TRIES = 3; // of a part that is not answered
const SHOWN_PROMPT = 1200; // characters
const TEMPLATE_KEY = "gptj-playground/batch-template";
const NOT_WRITTEN = ["batch.no_template", "batch.no_placeholder"]; // errors of a template that is not written yet
const TABLE_TYPE = "text/csv";
const LINES_TYPE = "application/jsonl";

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const root = find(element, ".batch");
  const $ = finder(root);
  const { say, showNotice, hideNotice } = noticesOf(root);
  const button = (/** @type {string} */ action) => $(`[data-batch="${action}"]`, HTMLButtonElement);
  const given = /** @type {{most_bytes: number, most_seed: number, most_characters: number, controls: {name: string, initial: any}[]}} */ (/** @type {any} */ (props));
  const template = $("#batch-template", HTMLTextAreaElement);
  const rows = new BatchRows($(".batch-rows ol"));

  let batch = /** @type {Batch | null} */ (null); // the one whose results are shown
  let planned = /** @type {any} */ (null); // the server's answer for the present form
  let running = /** @type {Run | null} */ (null); // the part that the server works on
  let isActive = false; // from Generate to the end of the last part
  let isCancelled = false;
  let isLost = false; // the connection is gone, and the part is sent again when it is back
  let tooLong = ""; // why rows of this run did not fit into the context
  let tries = 0;
  let written = 0; // tokens of the present part
  let begun = { time: 0, done: 0 }; // of this run
  let wroteAt = 0; // when its last row came
  const isShown = () => shownView() === "compare" && !root.hidden;

  // ---- which of the two is shown

  const kinds = /** @type {HTMLButtonElement[]} */ ([...element.querySelectorAll("[data-kind]")]);

  /** @param {string} kind */
  function showKind(kind) {
    const view = document.getElementById("view-compare");
    if (view) view.dataset.kind = kind;
    root.hidden = kind !== "file";
    for (const one of kinds) one.setAttribute("aria-pressed", String(one.dataset.kind === kind));
    if (kind === "file") appear();
    else emit("view", "compare");
  }
  for (const one of kinds) one.addEventListener("click", () => showKind(one.dataset.kind ?? ""));

  function appear() {
    if (!template.value) takeEditorsText();
    grow(template);
    formChanged();
  }

  // ---- the form

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let planTimer;
  function formChanged() {
    clearTimeout(planTimer);
    showRunName();
    setText($(".compare-settings span"), describeSettings(given.controls));
    if (isShown()) planTimer = setTimeout(plan, PLAN_PAUSE_MS);
  }

  function takeEditorsText() {
    const { prompt, continuation } = state.lastRun();
    const whole = editorsField()?.value ?? "";
    typeInto(template, asTemplate(continuation && whole === prompt + continuation ? prompt : whole, PLACEHOLDER));
  }

  template.addEventListener("input", () => {
    write(TEMPLATE_KEY, template.value);
    grow(template);
    formChanged();
  });

  let plans = 0;
  /** The server's answer for the present form; null where there was none, or the form has changed meanwhile. */
  async function plan() {
    clearTimeout(planTimer);
    const mine = ++plans;
    const asked = { template: template.value, columns: field.file?.columns ?? [], values: field.file?.rows[0].values ?? [], controls: state.controls };
    const answer = await server.plan_batch(asked).catch(() => null); // the next change or status retries
    if (!answer || mine !== plans) return null;
    planned = translated(answer);
    showPlan();
    return planned;
  }

  function showPlan() {
    const isUnwritten = !field.file && NOT_WRITTEN.includes(planned?.code);
    const isWrong = Boolean(planned?.message) && !isUnwritten;
    for (const field of root.querySelectorAll("[data-field]")) field.toggleAttribute("data-wrong", isWrong && field.getAttribute("data-field") === planned.field);
    template.toggleAttribute("aria-invalid", isWrong && planned.field === "prompt");
    const line = $(".batch-cost");
    line.classList.toggle("is-wrong", isWrong);
    setText(line, planned?.message ?? (field.file && planned?.tokens ? cost(field.file.rows.length) : ""));
    const first = planned?.prompt ?? "";
    $(".batch-first").hidden = !first || isWrong;
    setText($(".batch-first p"), head(first, SHOWN_PROMPT));
  }

  /** @param {number} count */
  function cost(count) {
    const said = [t("batch.rows", { count }), t("compare.at_most", { count: count * planned.tokens })];
    if (isActive) return said.join(" · ");
    said.push(planned.at_once ? t("compare.at_a_time", { count: planned.at_once }) : t("compare.waits"));
    const waiting = state.status?.streams_waiting ?? planned.waiting;
    said.push(waiting ? t("compare.requests_waiting", { count: waiting }) : t("compare.nobody_waits"));
    return said.join(" · ");
  }

  /** The present batch if it can continue: nothing has changed since. */
  const goesOn = () => (batch?.isFor(field.file, { template: template.value, controls: state.controls }) && batch.done ? batch : null);

  function showRunName() {
    const done = goesOn()?.done ?? 0;
    const all = field.file?.rows.length ?? 0;
    const key = done === all ? "batch.again" : done ? "batch.go_on" : "batch.generate";
    setText($(".batch-run-name"), all ? t(key, { count: all - done || all }) : t("batch.generate_all"));
  }

  const field = new FileField(root, {
    read: (asked) => server.read_file(asked),
    mostBytes: given.most_bytes,
    isLocked: () => isActive,
    begins: hideNotice,
    wrong: showNotice,
    insert(placeholder) {
      template.focus();
      typeInto(template, placeholder, template.selectionStart, template.selectionEnd);
    },
    chose(facts) {
      hideNotice();
      say(facts);
      formChanged();
    },
  });

  // ---- a run

  async function generate() {
    if (isActive) return;
    hideNotice();
    const { file } = field;
    if (!file) {
      showNotice(t("batch.no_file"));
      return field.button.focus();
    }
    const answer = await plan();
    if (isActive) return;
    if (!answer) return showNotice(t("batch.silent"));
    if (answer.message) return showNotice(answer.message);
    const before = goesOn();
    if (before && before.done < before.results.length) batch = before;
    else {
      const { seed } = state.controls;
      const first = String(seed ?? "").trim() ? Number(seed) : Math.floor(Math.random() * (given.most_seed + 1));
      batch = new Batch(file, { template: template.value, names: planned.placeholders, controls: { ...state.controls }, seed: first });
      const { missing } = batch;
      if (missing) return showNotice(t("rows.no_value", { row: missing.row, column: JSON.stringify(missing.column) }));
      rows.show(batch);
      keepFile(file);
    }
    start();
    bringIntoView($(".compare-results"));
  }

  function start(triesBefore = 0) {
    if (!batch) return;
    tries = triesBefore;
    batch.begin();
    isActive = true;
    isCancelled = isLost = false;
    tooLong = "";
    begun = { time: Date.now(), done: batch.done };
    wroteAt = begun.time;
    swapButtons(button("run"), button("cancel"));
    field.button.disabled = true;
    $(".compare-progress").hidden = $(".compare-results").hidden = false;
    say(t("batch.generating"));
    showPlan();
    sendNext();
  }

  function sendNext() {
    if (!batch || !isActive) return;
    const part = batch.next(Math.max(PART_ROWS, PART_OF_SLOTS * (planned?.at_once ?? 0)), PART_CHARACTERS, given.most_characters);
    if (isCancelled || !part.length) return end();
    written = 0;
    running = new Run({ records: readRecords, stop: (id) => server.stop_batch(id), silent: lose, tick: showProgress });
    const { template: asked, names, controls, seed } = batch.asked;
    trigger("run", { id: running.id, template: asked, names, rows: part, controls, seed });
    save();
    showProgress();
  }

  watch("value", () => running?.receive(props.value));

  /** @param {any[]} records */
  function readRecords(records) {
    for (const record of records) if (running) handlers[record.event]?.(record);
    showProgress();
    saveSoon();
  }

  /** @type {Record<string, (record: any) => void>} */
  const handlers = {
    rows({ cells, tokens }) {
      written = tokens;
      for (const { row, text, end: how } of cells) {
        if (!batch?.add(row, text, how)) continue;
        wroteAt = Date.now();
        if (TOO_LONG.includes(how.code)) tooLong = how.message;
        if (how.reason !== "error") tries = 0;
        rows.update(batch, row);
      }
    },
    end() {
      running?.end();
      running = null;
      if (isCancelled) end();
      else sendNext();
    },
    refused({ kind, message }) {
      if (kind === "unavailable" && !isCancelled) lose();
      else end(message);
    },
  };

  /** Give up on a part that gets no response; it is sent again once the model is ready. */
  function lose() {
    if (!running || !batch) return;
    server.stop_batch(running.id).catch(() => {});
    running.end();
    running = null;
    batch.putBack();
    if (isCancelled || ++tries > MOST_TRIES) return end(t("batch.silent"));
    isLost = true;
    showProgress();
    emit("refresh-status");
  }

  /** @param {string} [message] what went wrong */
  function end(message) {
    running?.end();
    running = null;
    isActive = isLost = false;
    swapButtons(button("cancel"), button("run"));
    field.button.disabled = false;
    $(".compare-progress").hidden = true;
    if (message) showNotice(message);
    else if (tooLong && !isCancelled) showNotice(tooLong, leaveOut(leaveOutBeginnings));
    if (batch) say(t("batch.done", { done: batch.done, count: batch.results.length }));
    showProgress();
    showRunName();
    showPlan();
    save();
  }

  /** Generate the rows again that are not done, without the beginnings of their texts where those are too long. */
  function leaveOutBeginnings() {
    if (!batch || isActive) return;
    hideNotice();
    batch.asked.controls = { ...batch.asked.controls, truncate: "left" };
    start();
  }

  function cancel() {
    if (!isActive || isCancelled) return;
    isCancelled = true;
    if (running) running.stop();
    else end();
    showProgress();
  }

  function showProgress() {
    if (!batch) return;
    const { done, failed, results } = batch;
    const said = [t("batch.done", { done, count: results.length })];
    if (isLost) said.unshift(t("batch.lost"));
    else if (isCancelled && isActive) said.unshift(t("run.stopping"));
    if (failed) said.push(t("batch.failed", { count: failed }));
    said.push(t("count.tokens", { count: Math.max(batch.tokens, isActive ? written : 0) }));
    const seconds = isActive && !isLost && secondsLeft(done - begun.done, results.length - done, (wroteAt - begun.time) / 1000);
    if (typeof seconds === "number") said.push(seconds < 60 ? t("batch.seconds_left", { count: Math.ceil(seconds) }) : t("batch.minutes_left", { count: Math.ceil(seconds / 60) }));
    setText($(".batch-state"), said.join(" · "));
    const percent = Math.round((100 * done) / results.length);
    $(".compare-progress").setAttribute("aria-valuenow", String(percent));
    $(".compare-progress i").style.width = `${percent}%`;
  }

  // ---- what the browser keeps until the tab is closed

  let savedAt = 0;
  function save() {
    savedAt = Date.now();
    if (batch) keepBatch(batch, { isActive, tries });
  }

  function saveSoon() {
    if (Date.now() - savedAt > SAVE_MS) save();
  }
  window.addEventListener("pagehide", () => isActive && save());

  /** Restore the batch after a reload; a running batch continues. */
  function restore() {
    const kept = restoreBatch();
    if (kept.isGone) showNotice(t("batch.gone"));
    if (!kept.batch) return;
    batch = kept.batch;
    tries = kept.tries;
    field.use(batch.file);
    if (!template.value) typeInto(template, batch.asked.template); // it may have been edited after the run began
    rows.show(batch);
    $(".compare-results").hidden = false;
    showProgress();
    showKind("file");
    if (!kept.isActive) return;
    if (++tries > MOST_TRIES) return showNotice(t("batch.silent"));
    start(tries);
  }

  // ---- input

  onPress(
    root,
    {
      run: generate,
      cancel,
      dismiss: hideNotice,
      "take-text": takeEditorsText,
      "change-controls": () => show("write"),
      download: () => batch && download(batch.fileName, batch.file.form === "csv" ? TABLE_TYPE : LINES_TYPE, batch.toFile()),
    },
    "batch",
  );

  // While this part is shown it handles the keys before the editor does.
  document.addEventListener(
    "keydown",
    (event) => {
      if (!isShown() || isDialogOpen()) return;
      if (isRunKey(event)) generate();
      else if (isEscape(event) && isActive) cancel();
      else return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );

  on("view", (name) => name === "compare" && !root.hidden && appear());
  on("controls", formChanged);
  on("status", ({ state: now }) => {
    if (isLost && now === "ready") {
      isLost = false;
      sendNext();
    } else if (isShown() && now === "ready" && !planned?.at_once && !planned?.message) formChanged();
    else if (planned) showPlan();
  });
  on("batch", (text) => {
    showKind("file");
    show("compare");
    typeInto(template, asTemplate(text, PLACEHOLDER));
  });

  showRunKey(root);
  template.value = read(TEMPLATE_KEY) ?? "";
  showRunName();
  restore();
}
