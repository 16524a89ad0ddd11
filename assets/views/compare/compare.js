// A grid of prompts and settings whose cells stream at once. The form and the last grid live in the visitor's
// browser; the server checks the form as it is typed ("plan"). Texts are untrusted and inserted as text only.

import { download, find, finder, inlineArrows, isDialogOpen, isEscape, isRunKey, onPress, showRunKey, swapButtons } from "../../components/dom.js";
import { leaveOut, noticesOf } from "../../components/notice.js";
import { show, shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { TOO_LONG } from "../../core/long_text.js";
import { Run } from "../../core/run.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";
import { readJSON, remove, write } from "../../core/storage.js";
import { Cells } from "./cells.js";
import { toJSON, toTable } from "./export.js";
import { Form } from "./form.js";

const PLAN_PAUSE_MS = 250;
const SAVE_PAUSE_MS = 400;
const MAX_KEPT_CHARACTERS = 1_500_000;
const FORM_KEY = "gptj-playground/compare";
const GRID_KEY = "gptj-playground/compare-grid";
const SILENT = t("compare.silent");

/** @param {string} key @param {any} value */
function keep(key, value) {
  const text = JSON.stringify({ version: 1, ...value });
  if (text.length < MAX_KEPT_CHARACTERS) write(key, text);
  else remove(key);
}

/** @param {Component} component */
export function mount({ element, trigger, props, server, watch }) {
  const root = find(element, ".compare");
  const $ = finder(root);
  const { say, showNotice, hideNotice } = noticesOf(root);
  const button = (/** @type {string} */ action) => $(`[data-action="${action}"]`, HTMLButtonElement);
  const form = new Form(root, /** @type {any} */ (props));
  const cells = new Cells(root, take);

  let planned = /** @type {any} */ (null); // the server's answer for the present form
  let running = /** @type {Run | null} */ (null); // the running comparison
  let started = 0; // when its first token came
  let controls = /** @type {Controls} */ ({}); // its controls
  let cutPrompt = /** @type {string | null} */ (null); // its whole prompt if only the end was sent
  const isShown = () => shownView() === "compare" && root.checkVisibility(); // a file of rows can be shown instead

  // ---- the form

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let planTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let saveTimer;
  function formChanged() {
    clearTimeout(planTimer);
    if (isShown()) planTimer = setTimeout(plan, PLAN_PAUSE_MS);
    saveTimer ??= setTimeout(saveForm, SAVE_PAUSE_MS);
  }

  function saveForm() {
    clearTimeout(saveTimer);
    saveTimer = undefined;
    keep(FORM_KEY, { form: form.read() });
  }

  function takeEditorsText() {
    form.takeEditorsText();
    formChanged();
  }

  root.addEventListener("input", formChanged);
  root.addEventListener("change", () => form.showSettings());
  window.addEventListener("pagehide", () => {
    if (saveTimer) saveForm();
    if (running && cells.grid) keep(GRID_KEY, { grid: cells.grid });
  });

  let plans = 0;
  async function plan() {
    const mine = ++plans;
    const answer = await server.plan(form.asked(state.controls)).catch(() => null); // the next change or status retries
    if (!answer || mine !== plans) return;
    form.showPlaceholders(answer.placeholders);
    planned = answer;
    showPlan();
  }

  function showPlan() {
    const isUnwritten = planned.field === "prompt" && !form.prompt.value; // the message asks for a prompt
    const isWrong = Boolean(planned.message) && !isUnwritten;
    form.markWrong(isWrong ? planned.field : null);
    const line = $(".compare-cost");
    line.classList.toggle("is-wrong", isWrong);
    line.textContent = planned.message ?? cost(planned);
  }

  /** @param {any} plan */
  function cost({ cells: count, rows, columns, tokens, at_once, contradictory, waiting: before }) {
    const size = rows > 1 && columns > 1 ? ` (${rows} × ${columns})` : "";
    const said = [`${t("count.cells", { count })}${size}`, t("compare.at_most", { count: tokens })];
    if (running) return said.join(" · ");
    if (!at_once) said.push(t("compare.waits"));
    else if (count > at_once) said.push(t("compare.at_a_time", { count: at_once }));
    else if (count > 1) said.push(t("compare.all_at_once"));
    const waiting = state.status?.streams_waiting ?? before;
    said.push(waiting ? t("compare.requests_waiting", { count: waiting }) : t("compare.nobody_waits"));
    if (contradictory) said.push(t("compare.contradictory", { count: contradictory }));
    return said.join(" · ");
  }

  // ---- a run

  /** @param {Controls} [own] controls that replace those of the Write panel */
  function run(own = {}) {
    if (running) return;
    hideNotice();
    controls = { ...state.controls, ...own };
    const asked = form.asked(controls);
    const { prompt } = form.read();
    cutPrompt = asked.prompt === prompt ? null : prompt;
    started = 0;
    running = new Run({
      records: readRecords,
      stop: (id) => server.stop(id),
      silent: () => end(SILENT),
      tick: showProgress,
    });
    swapButtons(button("run"), button("stop"));
    $(".compare-progress").hidden = false;
    say(t("compare.comparing"));
    showProgress();
    trigger("run", { id: running.id, form: asked });
  }

  watch("value", () => running?.receive(props.value));

  /** @param {any[]} records */
  function readRecords(records) {
    for (const record of records) if (running) handlers[record.event]?.(record);
    showProgress();
  }

  /** @type {Record<string, (record: any) => void>} */
  const handlers = {
    grid({ rows, columns, prompts, cells: described }) {
      const fresh = { state: "queued", text: "", tokens: 0, end: null };
      cells.show({ rows, columns, prompts: cutPrompt === null ? prompts : [cutPrompt], controls, cells: described.map((/** @type {any} */ cell) => ({ ...fresh, ...cell })) });
      $(".compare-results").scrollIntoView({ block: "nearest" });
    },
    cells({ cells: changes }) {
      for (const { cell: index, text = "", ...changed } of changes) {
        const cell = cells.grid?.cells[index];
        if (!cell) continue;
        if (changed.tokens) started ||= Date.now();
        Object.assign(cell, changed);
        cell.text += text;
        cells.update(index, text);
      }
    },
    end: () => end(),
    refused: ({ field, message }) => end(message, field),
  };

  /** @param {string} [message] what went wrong @param {string} [field] */
  function end(message, field) {
    running?.end();
    running = null;
    swapButtons(button("stop"), button("run"));
    $(".compare-progress").hidden = true;
    if (message) {
      if (field) refuse(message, field);
      else showNotice(message);
      emit("refresh-status");
    }
    const { grid } = cells;
    grid?.cells.forEach((cell, index) => {
      if (!cell.end) leaveOff(cell, message ?? t("compare.cut_off"));
      cells.update(index);
    });
    if (grid && !message) {
      say(t("compare.cells_done", { count: grid.cells.length }));
      offerToLeaveOut(grid);
    }
    showProgress();
    if (planned) showPlan();
    if (cells.order.by !== "grid") cells.layOut(); // sort by the final figures
    if (grid) keep(GRID_KEY, { grid });
  }

  /** If a prompt was too long, offer to compare again without its beginning. The seed stays, so the other cells get the same words. @param {import("./cells.js").Grid} grid */
  function offerToLeaveOut({ cells: all }) {
    const tooLong = all.find(({ end, settings }) => TOO_LONG.includes(end?.code) && !("truncate" in settings));
    const { seed } = all[0].settings;
    if (tooLong) showNotice(tooLong.end.message, leaveOut(() => run({ truncate: "left", seed: String(seed) })));
  }

  /** Show an error in the plan's line. The next change of the form removes it. @param {string} message @param {string} field */
  function refuse(message, field) {
    planned = { message, field };
    say(message);
    form.focus(field);
  }

  /** @param {import("./cells.js").GridCell} cell @param {string} message */
  function leaveOff(cell, message) {
    cell.state = "done";
    cell.end = { reason: "error", message, mean_logprob: null, distinct_words: null, completion_tokens: cell.tokens };
  }

  function stop() {
    running?.stop();
    showProgress();
  }

  function showProgress() {
    const all = cells.grid?.cells;
    if (!all) return;
    const tokens = all.reduce((sum, cell) => sum + (cell.end?.completion_tokens || cell.tokens), 0);
    $(".compare-state").textContent = describeProgress(all, tokens).join(" · ");
    const shareOf = (/** @type {any} */ cell) => (cell.end ? 1 : Math.min(1, cell.tokens / (cell.settings.max_new_tokens || 1)));
    const share = all.reduce((sum, cell) => sum + shareOf(cell), 0) / all.length;
    const percent = running?.hasBegun ? Math.round(100 * share) : 0;
    $(".compare-progress").setAttribute("aria-valuenow", String(percent));
    $(".compare-progress i").style.width = `${percent}%`;
  }

  /** @param {import("./cells.js").GridCell[]} all @param {number} tokens */
  function describeProgress(all, tokens) {
    if (!running) {
      const [seed, ...others] = new Set(all.map(({ settings }) => settings.seed));
      const said = [t("count.cells", { count: all.length }), t("count.tokens", { count: tokens })];
      return others.length || seed === undefined ? said : [...said, t("run.seed", { seed: String(seed) })];
    }
    if (!running.hasBegun) return [t("run.starting")];
    const done = all.filter((cell) => cell.end).length;
    const line = all.filter((cell) => cell.state === "queued" || cell.state === "waiting").length;
    const said = [running.isStopping ? t("run.stopping") : t("compare.done", { done, count: all.length })];
    if (line) said.push(t("compare.in_line", { count: line }));
    said.push(t("count.tokens", { count: tokens }));
    const seconds = started && (Date.now() - started) / 1000;
    if (seconds > 0.5) said.push(t("run.rate", { rate: Math.round(tokens / seconds) }));
    return said;
  }

  // ---- input

  /** Put a cell's text and settings into the editor, with the seed, so that they give the same words again. @param {number} index */
  function take(index) {
    const { grid } = cells;
    if (!grid) return;
    const cell = grid.cells[index];
    cells.dialog.close();
    if (document.querySelector(".editor.is-running")) {
      return showNotice(t("compare.editor_writes"));
    }
    const present = state.controls;
    const wanted = /** @type {Controls} */ ({});
    for (const [name, value] of Object.entries({ ...grid.controls, ...cell.settings, n: 1 })) {
      if (name in present) wanted[name] = typeof present[name] === "string" ? String(value ?? "") : value;
    }
    show("write");
    sessions.current.scaffold = null; // its controls are replaced too
    useControls(wanted);
    emit("text", { text: grid.prompts[cell.prompt], words: cell.text });
  }

  onPress(root, {
    run: () => run(),
    stop,
    dismiss: hideNotice,
    turn: () => cells.turn(),
    close: () => cells.dialog.close(),
    previous: () => cells.step(-1),
    next: () => cells.step(1),
    "change-controls": () => show("write"),
    "take-text": takeEditorsText,
    "take-shown": () => cells.shown !== null && take(cells.shown),
    "export-csv"() {
      if (cells.grid) download("comparison.csv", "text/csv", toTable(cells.grid, cells.inOrder));
    },
    "export-json"() {
      if (cells.grid) download("comparison.json", "application/json", toJSON(cells.grid, cells.inOrder, state.status?.model));
    },
  });

  // While this view is shown it handles the keys before the editor does.
  document.addEventListener(
    "keydown",
    (event) => {
      const isOpen = cells.dialog.open;
      if (!isShown() || (isDialogOpen() && !isOpen)) return;
      if (isRunKey(event)) {
        if (!isOpen) run();
      } else if (isEscape(event) && running && !isOpen) {
        stop();
      } else {
        const [forwards, backwards] = inlineArrows();
        if (isOpen && event.key === backwards) cells.step(-1);
        if (isOpen && event.key === forwards) cells.step(1);
        return;
      }
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );

  function appear() {
    if (!form.prompt.value) takeEditorsText();
    form.grow();
    form.showSettings();
    formChanged();
  }

  on("view", (name) => name === "compare" && appear());
  on("controls", () => {
    form.showSettings();
    if (isShown()) formChanged();
  });
  on("status", (status) => {
    const isKnown = planned && (planned.at_once > 0 || planned.message);
    if (isShown() && status.state === "ready" && !isKnown) formChanged();
    else if (planned) showPlan();
  });

  // Texts with braces are set here, because the template would interpret them.
  $("#compare-template-help").textContent =
    t("compare.template_help");
  form.prompt.placeholder = "Once upon a time there was a {animal} who";
  showRunKey(root);

  // Restore the state before a reload; ignore unknown data in the storage.
  const savedForm = readJSON(FORM_KEY);
  form.fill(savedForm?.version === 1 ? savedForm.form : null);
  const savedGrid = readJSON(GRID_KEY);
  if (savedGrid?.version === 1) {
    try {
      for (const cell of savedGrid.grid.cells) if (!cell.end) leaveOff(cell, t("compare.page_left"));
      cells.show(savedGrid.grid);
      showProgress();
    } catch {
      cells.grid = null;
      $(".compare-results").hidden = true;
    }
  }
  if (isShown()) appear();
}
