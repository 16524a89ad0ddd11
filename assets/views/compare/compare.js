// A grid of prompts and settings, all of whose cells stream at once. The form and the last grid live in the
// visitor's browser; what a form amounts to, and what is wrong with it, the server says as one types
// ("plan"). Text of any origin is put in as text only.

import { download, make, swapButtons } from "../../components/dom.js";
import { show, shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { number, plural, signed } from "../../core/format.js";
import { Run } from "../../core/run.js";
import { state, useControls } from "../../core/state.js";
import { readJSON, remove, write } from "../../core/storage.js";

const PLAN_PAUSE_MS = 250;
const SAVE_PAUSE_MS = 400;
const MAX_NAMES = 100;
const MAX_KEPT_CHARACTERS = 1_500_000;
const FORM_KEY = "gptj-playground/compare";
const GRID_KEY = "gptj-playground/compare-grid";
const ALWAYS_TOLD = ["temperature", "top_p"];

export function mount({ element, trigger, props, server, watch }) {
  const part = element.querySelector(".compare");
  const $ = (selector) => part.querySelector(selector);
  const $$ = (selector) => [...part.querySelectorAll(selector)];
  const axisNamed = new Map(props.axes.map((axis) => [axis.name, axis]));
  const narrow = matchMedia("(max-width: 860px)");

  let planned = null; // what the server said of the form as it stands
  let running = null; // the comparison under way: {id, read, begun, heard, started, isStopping}
  let grid = null; // the latest one: {rows, columns, prompts, cells, controls, model}; see newGrid
  let order = { by: "grid", rising: false };
  let cards = []; // what is on the page of each cell: {card, node, take}
  let shown = null; // the index of the cell in the dialog

  const isShown = () => shownView() === "compare";

  // ---- keeping, where there is a storage to keep in

  function keep(key, value) {
    const text = JSON.stringify(value);
    if (text.length < MAX_KEPT_CHARACTERS) write(key, text);
    else remove(key);
  }

  // ---- the form

  const fields = {
    prompt: $("#compare-prompt"),
    isTemplate: $("#compare-is-template"),
    length: $("#compare-length"),
    columns: { control: $('[data-axis="columns"]'), values: $('[data-values="columns"]') },
    rows: { control: $('[data-axis="rows"]'), values: $('[data-values="rows"]') },
  };
  const written = new Map(); // of each placeholder that there ever was, its values as they are typed
  const typed = { columns: new Map(), rows: new Map() }; // of each control, the values last typed

  const seeds = () => $('[name="compare-seeds"]:checked')?.value ?? "same";

  function readForm() {
    const axis = ({ control, values }) => ({ control: control.value, values: control.value ? values.value : "" });
    return {
      prompt: fields.prompt.value,
      is_template: fields.isTemplate.checked,
      placeholders: [...written].slice(-MAX_NAMES), // also of names that may come back
      rows: axis(fields.rows),
      columns: axis(fields.columns),
      length: fields.length.value,
      seeds: seeds(),
      controls: state.controls,
    };
  }

  function fillForm(form) {
    const text = (value, otherwise) => (typeof value === "string" ? value : otherwise);
    fields.prompt.value = text(form?.prompt, "");
    fields.isTemplate.checked = form?.is_template !== false;
    fields.length.value = text(form?.length, "60");
    const choice = form?.seeds === "different" ? "different" : "same";
    $(`[name="compare-seeds"][value="${choice}"]`).checked = true;
    if (Array.isArray(form?.placeholders)) {
      for (const pair of form.placeholders) {
        if (Array.isArray(pair) && typeof pair[0] === "string") written.set(pair[0], text(pair[1], ""));
      }
    }
    showPlaceholders([...written.keys()]);
    for (const name of ["columns", "rows"]) {
      const control = text(form?.[name]?.control, name === "columns" && !form ? "temperature" : "");
      fields[name].control.value = axisNamed.has(control) ? control : "";
      const values = text(form?.[name]?.values, "");
      if (control && values) typed[name].set(control, values);
      showAxis(name);
    }
  }

  for (const name of ["columns", "rows"]) {
    const { control, values } = fields[name];
    const nothing = control.appendChild(make("option", "", "nothing"));
    nothing.value = "";
    let group = control;
    for (const axis of props.axes) {
      if (axis.group && group.label !== axis.group) {
        group = control.appendChild(document.createElement("optgroup"));
        group.label = axis.group;
      }
      (axis.group ? group : control).appendChild(make("option", "", axis.label)).value = axis.name;
    }
    control.addEventListener("change", () => showAxis(name));
    values.addEventListener("input", () => typed[name].set(control.value, values.value));
  }

  // The values and the help of the control that an axis goes through; a suggestion where none were typed.
  function showAxis(name) {
    const { control, values } = fields[name];
    const axis = axisNamed.get(control.value);
    values.hidden = !axis;
    values.value = axis ? (typed[name].get(axis.name) ?? axis.suggestion) : "";
    const help = $(`[data-field="${name}"] .compare-help`);
    help.textContent = axis ? axis.help : name === "rows" ? "One row for each prompt." : "One column.";
    help.title = axis?.definition ?? "";
    for (const other of ["columns", "rows"]) grow(fields[other].values);
  }

  function showPlaceholders(names) {
    const box = $(".compare-placeholders");
    const there = new Map([...box.children].map((field) => [field.querySelector("textarea").dataset.name, field]));
    if (there.size === names.length && names.every((name) => there.has(name))) return;
    for (const [name, field] of there) if (!names.includes(name)) field.remove();
    names.forEach((name, i) => {
      const field = there.get(name) ?? newPlaceholder(name, i);
      if (box.children[i] !== field) box.insertBefore(field, box.children[i] ?? null);
    });
  }

  function newPlaceholder(name) {
    const field = make("div", "compare-field");
    field.dataset.field = `values of ${name}`;
    const label = field.appendChild(make("label", "", "Values of "));
    label.appendChild(make("bdi", "compare-name", `{${name}}`));
    const area = label.appendChild(document.createElement("textarea"));
    Object.assign(area, { rows: 3, spellcheck: false, dir: "auto", placeholder: "one on each line" });
    area.dataset.name = name;
    area.value = written.get(name) ?? "";
    area.addEventListener("input", () => {
      written.set(name, area.value);
      grow(area);
    });
    return field;
  }

  function grow(area) {
    if (!area.offsetParent) return;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight + 2, 240)}px`;
  }

  // What the model went on from, if it has the last word: that is what other settings would go on from too.
  function takeEditorsText() {
    const whole = document.querySelector(".editor textarea")?.value ?? "";
    const { prompt, continuation } = state.lastRun();
    const text = continuation && whole === prompt + continuation ? prompt : whole;
    fields.prompt.value = text;
    if (/[{}]/.test(text)) fields.isTemplate.checked = false; // its braces are its own
    grow(fields.prompt);
    formChanged();
  }

  let planTimer = null;
  let saveTimer = null;
  function formChanged() {
    clearTimeout(planTimer);
    if (isShown()) planTimer = setTimeout(plan, PLAN_PAUSE_MS);
    saveTimer ??= setTimeout(saveForm, SAVE_PAUSE_MS);
  }

  function saveForm() {
    clearTimeout(saveTimer);
    saveTimer = null;
    const { controls, ...form } = readForm();
    keep(FORM_KEY, { version: 1, form });
  }

  part.addEventListener("input", formChanged);
  window.addEventListener("pagehide", () => {
    if (saveTimer) saveForm();
    if (running && grid) keep(GRID_KEY, { version: 1, grid });
  });

  // ---- the plan

  let plans = 0;
  async function plan() {
    const mine = ++plans;
    let answer;
    try {
      answer = await server.plan(readForm());
    } catch {
      return; // the next change or the next status asks again
    }
    if (mine !== plans) return;
    showPlaceholders(answer.placeholders);
    planned = answer;
    showPlan();
  }

  function showPlan() {
    markWrong(planned.message ? planned.field : null);
    const line = $(".compare-cost");
    line.classList.toggle("is-wrong", Boolean(planned.message));
    line.textContent = planned.message ?? cost(planned);
  }

  function cost({ cells, rows, columns, tokens, at_once, contradictory }) {
    const size = rows > 1 && columns > 1 ? ` (${rows} × ${columns})` : "";
    const said = [`${plural(cells, "cell")}${size}`, `at most ${plural(tokens, "token")}`];
    if (running) return said.join(" · ");
    if (!at_once) said.push("waits until the model is loaded");
    else if (cells > at_once) said.push(`${at_once} at a time`);
    else if (cells > 1) said.push("all at once");
    const waiting = state.status?.streams_waiting ?? planned.waiting;
    said.push(waiting ? `${plural(waiting, "request")} waiting` : "nobody is waiting");
    if (contradictory) said.push(`${plural(contradictory, "cell")} cannot run, for the controls contradict each other`);
    return said.join(" · ");
  }

  function markWrong(field) {
    for (const box of $$("[data-field]")) {
      const wrong = box.dataset.field === field;
      box.toggleAttribute("data-wrong", wrong);
      for (const input of box.querySelectorAll("textarea, input")) {
        if (wrong) input.setAttribute("aria-invalid", "true");
        else input.removeAttribute("aria-invalid");
      }
    }
  }

  // The controls that no axis sets are those of the Write panel.
  function showSettings() {
    const values = state.controls;
    const set = new Set([fields.columns.control.value, fields.rows.control.value, "max_new_tokens"]);
    if (set.has("preset")) for (const name of Object.keys(Object.values(props.presets)[0])) set.add(name);
    const said = [];
    for (const { name, label, initial } of props.controls) {
      const value = values[name] ?? "";
      if (set.has(name) || value === "" || (value === initial && !ALWAYS_TOLD.includes(name))) continue;
      const written = typeof value === "boolean" ? (value ? "on" : "off") : String(value).replaceAll("\n", ", ");
      said.push(`${label} ${written.length > 40 ? `${written.slice(0, 40)}…` : written}`);
    }
    $(".compare-settings span").textContent = said.length
      ? `As on Write: ${said.join(" · ")}.`
      : "All other controls are as on Write.";
  }

  // ---- a run

  function run() {
    if (running) return;
    hideNotice();
    const form = readForm();
    running = new Run({
      records: readRecords,
      stop: (id) => server.stop(id),
      silent: () => end("The playground no longer answers. What the cells have is kept; try again when the connection is back."),
      tick: showProgress,
    });
    running.controls = { ...form.controls };
    swapButtons($('[data-do="run"]'), $('[data-do="stop"]'));
    $(".compare-progress").hidden = false;
    say("Comparing");
    showProgress();
    trigger("run", { id: running.id, form });
  }

  watch("value", () => running?.receive(props.value));

  function readRecords(records) {
    for (const record of records) if (running) handlers[record.event]?.(record);
    showProgress();
  }

  const handlers = {
    grid(told) {
      showGrid({ ...told, controls: running.controls, cells: told.cells.map(newCell) });
      part.querySelector(".compare-results").scrollIntoView({ block: "nearest" });
    },
    cells({ cells }) {
      for (const { cell: index, text, ...news } of cells) {
        const cell = grid.cells[index];
        if (news.tokens) running.started ??= Date.now();
        Object.assign(cell, news);
        if (text) cell.text += text;
        showCell(index, text ?? "");
      }
    },
    end: () => end(),
    refused: ({ field, message }) => end(message, field),
  };

  const newCell = (cell) => ({ state: "queued", text: "", tokens: 0, end: null, ...cell });

  function end(message, field) {
    running.end();
    running = null;
    swapButtons($('[data-do="stop"]'), $('[data-do="run"]'));
    $(".compare-progress").hidden = true;
    if (message) {
      showNotice(message);
      if (field) markWrong(field);
      emit("refresh-status");
    }
    for (const [index, cell] of (grid?.cells ?? []).entries()) {
      if (!cell.end) leaveOff(cell, message ?? "The comparison ended before this cell did.");
      showCell(index, "");
    }
    if (grid && !message) say(`${plural(grid.cells.length, "cell")} done`);
    showProgress();
    if (planned) showPlan();
    if (order.by !== "grid") layOut(); // by figures that are known now
    if (grid) keep(GRID_KEY, { version: 1, grid });
  }

  function leaveOff(cell, message) {
    cell.state = "done";
    cell.end = { reason: "error", message, mean_logprob: null, distinct_words: null, completion_tokens: cell.tokens };
  }

  function stop() {
    if (!running) return;
    running.stop();
    showProgress();
  }

  function showProgress() {
    if (!grid) return;
    const { cells } = grid;
    const done = cells.filter((cell) => cell.end).length;
    const tokens = cells.reduce((sum, cell) => sum + (cell.end?.completion_tokens || cell.tokens), 0);
    const said = [];
    if (running && !running.hasBegun) {
      said.push("Starting…");
    } else if (running) {
      const line = cells.filter((cell) => cell.state === "queued" || cell.state === "waiting").length;
      said.push(running.isStopping ? "Stopping…" : `${done} of ${plural(cells.length, "cell")} done`);
      if (line) said.push(`${number(line)} in line`);
      said.push(plural(tokens, "token"));
      const seconds = (Date.now() - running.started) / 1000;
      if (seconds > 0.5) said.push(`${number(Math.round(tokens / seconds))} a second`);
    } else {
      said.push(plural(cells.length, "cell"), plural(tokens, "token"));
      if (grid.seed !== undefined) said.push(`seed ${grid.seed}`);
    }
    $(".compare-state").textContent = said.join(" · ");
    const shareOf = (cell) => (cell.end ? 1 : Math.min(1, cell.tokens / (cell.settings.max_new_tokens || 1)));
    const share = cells.reduce((sum, cell) => sum + shareOf(cell), 0) / cells.length;
    const percent = running?.hasBegun ? Math.round(100 * share) : 0;
    $(".compare-progress").setAttribute("aria-valuenow", String(percent));
    $(".compare-progress i").style.width = `${percent}%`;
  }

  function say(text) {
    $('[role="status"]').textContent = text;
  }

  function showNotice(message) {
    $(".notice").hidden = false;
    $(".notice p").textContent = message;
  }

  function hideNotice() {
    $(".notice").hidden = true;
  }

  // ---- the grid

  function showGrid(next) {
    if ($(".cell-dialog").open) $(".cell-dialog").close();
    grid = next;
    const own = new Set(grid.cells.map((cell) => cell.settings.seed));
    grid.seed = own.size === 1 ? [...own][0] : undefined;
    cards = grid.cells.map(makeCard);
    $(".compare-results").hidden = false;
    layOut();
    grid.cells.forEach((_, index) => showCell(index, ""));
  }

  const headingOf = (cell) => [...grid.rows[cell.row], ...grid.columns[cell.column]];
  const inWords = (heading) => heading.map(([label, value]) => `${label} ${value}`).join(", ");

  // Labels and values beside each other, neither able to turn the other's direction.
  function writeHeading(node, heading, otherwise = "") {
    node.replaceChildren();
    if (!heading.length) node.textContent = otherwise;
    for (const [label, value] of heading) {
      const pair = node.appendChild(make("span", "compare-pair"));
      pair.append(make("bdi", "compare-label", label), " ", make("bdi", "compare-value", value));
      pair.title = value;
    }
  }

  function makeCard(cell, index) {
    const card = make("article", "cell");
    const heading = card.appendChild(make("h3"));
    writeHeading(heading, headingOf(cell), "The only cell");
    const text = card.appendChild(make("p", "cell-text as-written"));
    text.dir = "auto";
    const node = text.appendChild(document.createTextNode(""));
    card.appendChild(make("p", "cell-figures"));
    const foot = card.appendChild(make("div", "cell-foot"));
    foot.appendChild(make("p", "card-end"));
    const buttons = foot.appendChild(make("div", "cell-buttons button-row"));
    const named = (name, title, action) => {
      const button = buttons.appendChild(make("button", "", name));
      button.type = "button";
      button.title = title;
      button.appendChild(make("span", "sr-only", `: ${inWords(headingOf(cell))}`));
      button.addEventListener("click", action);
      return button;
    };
    named("Expand", "The whole text and its settings", () => expand(index));
    const takes = named("To editor", "Put text and settings into the editor, to go on with them there", () => take(index));
    return { card, node, take: takes };
  }

  function showCell(index, added) {
    const cell = grid.cells[index];
    const { card, node, take } = cards[index];
    if (added && node.length) node.appendData(added);
    else if (cell.text && !node.length) node.data = cell.text.trimStart();
    card.dataset.state = cell.state;
    card.classList.toggle("is-broken", cell.end?.reason === "error");
    writeFigures(card.querySelector(".cell-figures"), cell);
    const line = card.querySelector(".card-end");
    const said = progressOf(cell);
    if (line.textContent !== said) line.textContent = said;
    take.disabled = !cell.end || !cell.text;
    if (shown === index) showDialog();
  }

  function progressOf(cell) {
    if (cell.end) return cell.end.message;
    if (cell.state === "queued") return "In line";
    if (cell.state === "waiting") return cell.ahead > 0 ? `In line, ${cell.ahead} ahead` : "Starting…";
    if (cell.drafted_tokens && !cell.tokens) return `Drafting: ${plural(cell.drafted_tokens, "token")}`;
    return cell.tokens ? "Writing…" : "Reading the prompt…";
  }

  function writeFigures(node, cell) {
    const end = cell.end ?? {};
    const figures = [];
    if (typeof end.mean_logprob === "number") {
      figures.push([`${signed(end.mean_logprob, 2)} a token`, "Mean log-probability of a token, by the model itself: nearer to 0 is likelier"]);
    }
    if (typeof end.distinct_words === "number") {
      figures.push([`${Math.round(100 * end.distinct_words)} % distinct`, "Distinct words of all words: low where the text repeats itself"]);
    }
    const tokens = end.completion_tokens || cell.tokens;
    if (tokens) figures.push([plural(tokens, "token"), ""]);
    node.replaceChildren(...figures.map(([text, title]) => Object.assign(make("span", "", text), { title })));
  }

  // Cells in rows and columns; sorted, or where the screen is narrow, one below the other.
  function layOut() {
    if (!grid) return;
    const box = $(".compare-cells");
    const sorted = order.by !== "grid";
    const asList = sorted || narrow.matches;
    box.classList.toggle("is-list", asList);
    const turn = $('[data-do="turn"]');
    turn.hidden = !sorted;
    turn.textContent = order.rising ? "↑" : "↓";
    turn.setAttribute("aria-label", order.rising ? "Lowest first; turn round" : "Highest first; turn round");
    turn.title = turn.getAttribute("aria-label");
    if (asList) {
      const list = make("ol", "cell-list");
      for (const cell of inOrder()) list.appendChild(make("li")).appendChild(cards[grid.cells.indexOf(cell)].card);
      box.replaceChildren(list);
    } else {
      box.replaceChildren(table());
    }
  }

  function inOrder() {
    if (order.by === "grid") return grid.cells;
    const figure = (cell) => cell.end?.[order.by] ?? null;
    const direction = order.rising ? 1 : -1;
    return [...grid.cells].sort((a, b) => {
      const [one, other] = [figure(a), figure(b)];
      if (one === null || other === null) return (one === null) - (other === null); // without one: last
      return direction * (one < other ? -1 : one > other ? 1 : 0);
    });
  }

  function table() {
    const hasRowHeads = grid.rows.some((heading) => heading.length);
    const node = make("table");
    node.style.setProperty("--columns", grid.columns.length);
    node.setAttribute("aria-label", "Continuations, by row and column");
    if (grid.columns.some((heading) => heading.length)) {
      const head = node.createTHead().insertRow();
      if (hasRowHeads) head.appendChild(make("td", "corner"));
      for (const heading of grid.columns) writeHeading(headCell(head, "col"), heading);
    }
    const body = node.createTBody();
    grid.rows.forEach((heading, row) => {
      const line = body.insertRow();
      if (hasRowHeads) writeHeading(headCell(line, "row").appendChild(make("div", "compare-stay")), heading);
      grid.cells.forEach((cell, index) => cell.row === row && line.insertCell().appendChild(cards[index].card));
    });
    return node;
  }

  function headCell(line, scope) {
    const head = line.appendChild(make("th"));
    head.scope = scope;
    return head;
  }

  narrow.addEventListener("change", layOut);
  $("#compare-order").addEventListener("change", ({ target }) => {
    order = { by: target.value, rising: target.value === "reason" };
    layOut();
  });

  // ---- one cell

  function expand(index) {
    shown = index;
    showDialog();
    if (!$(".cell-dialog").open) $(".cell-dialog").showModal();
    $(".cell-whole").scrollTop = 0;
  }

  function showDialog() {
    const cell = grid.cells[shown];
    writeHeading($(".cell-dialog h2"), headingOf(cell), "The only cell");
    $(".cell-prompt").textContent = grid.prompts[cell.prompt];
    $(".cell-words").textContent = cell.text;
    writeFigures($(".cell-dialog .cell-figures"), cell);
    $(".cell-dialog .card-end").textContent = progressOf(cell);
    const dropped = cell.dropped_tokens ? [`the first ${plural(cell.dropped_tokens, "token")} of the prompt left out`] : [];
    const nothing = cell.end?.filtered_away
      ? [`at ${plural(cell.end.filtered_away, "token")} the controls had left nothing to choose from`]
      : [];
    const set = Object.entries(cell.settings).map(([name, value]) => `${name} ${value}`);
    $(".cell-settings").textContent = [...set, ...dropped, ...nothing].join(" · ");
    const cells = inOrder();
    const place = cells.indexOf(cell);
    $('[data-do="previous"]').disabled = place === 0;
    $('[data-do="next"]').disabled = place === cells.length - 1;
    $('[data-do="take-shown"]').disabled = cards[shown].take.disabled;
  }

  function step(by) {
    const cells = inOrder();
    const next = cells[cells.indexOf(grid.cells[shown]) + by];
    if (next) expand(grid.cells.indexOf(next));
  }

  $(".cell-dialog").addEventListener("close", () => (shown = null));
  $(".cell-dialog").addEventListener("click", (event) => {
    if (event.target === $(".cell-dialog")) $(".cell-dialog").close(); // beside it
  });

  // Text and settings into the editor, the seed too, so that the same words come again.
  function take(index) {
    const cell = grid.cells[index];
    if ($(".cell-dialog").open) $(".cell-dialog").close();
    if (document.querySelector(".editor.is-running")) {
      showNotice("The editor is still writing. Stop it there first; the cell is kept here.");
      return;
    }
    const present = state.controls;
    const wanted = { ...grid.controls, ...cell.settings, n: 1 };
    for (const name of Object.keys(wanted)) {
      if (!(name in present)) delete wanted[name];
      else if (typeof present[name] === "string") wanted[name] = String(wanted[name] ?? "");
    }
    show("write");
    useControls(wanted);
    emit("text", { text: grid.prompts[cell.prompt], words: cell.text });
  }

  // ---- export

  const FIGURES = ["reason", "message", "mean_logprob", "distinct_words", "prompt_tokens", "completion_tokens"];

  function exportAs(kind) {
    const { model } = state.status ?? {};
    const cells = inOrder().map((cell) => ({
      heading: headingOf(cell),
      prompt: grid.prompts[cell.prompt],
      text: cell.text,
      settings: cell.settings,
      ...Object.fromEntries(FIGURES.map((name) => [name, cell.end?.[name] ?? null])),
    }));
    if (kind === "json") {
      const { controls } = grid;
      const about = model && { name: model.name, revision: model.revision, precision: model.precision };
      download("comparison.json", "application/json", JSON.stringify({ model: about, controls, cells }, null, 2));
      return;
    }
    const settings = [...new Set(cells.flatMap((cell) => Object.keys(cell.settings)))];
    const filled = [...new Set(cells.flatMap(({ heading }) => heading.map(([label]) => label)))].filter(
      (label) => !props.controls.some((control) => control.label === label),
    );
    const names = ["prompt", "text", ...FIGURES];
    const lines = [
      [...filled, ...settings, ...names],
      ...cells.map((cell) => [
        ...filled.map((name) => cell.heading.find(([label]) => label === name)?.[1] ?? ""),
        ...settings.map((name) => cell.settings[name] ?? ""),
        ...names.map((name) => cell[name] ?? ""),
      ]),
    ];
    const quoted = (value) => (typeof value === "number" ? String(value) : `"${String(value).replaceAll('"', '""')}"`);
    download("comparison.csv", "text/csv", lines.map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n");
  }

  // ---- hands

  const actions = {
    run,
    stop,
    dismiss: hideNotice,
    turn() {
      order.rising = !order.rising;
      layOut();
    },
    close: () => $(".cell-dialog").close(),
    previous: () => step(-1),
    next: () => step(1),
    "change-controls": () => show("write"),
    "take-text": takeEditorsText,
    "take-shown": () => take(shown),
    "export-csv": () => exportAs("csv"),
    "export-json": () => exportAs("json"),
  };

  part.addEventListener("click", ({ target }) => {
    const pressed = target.closest("[data-do]");
    if (pressed && !pressed.disabled) actions[pressed.dataset.do]();
  });

  // The keys mean this view while it is shown; the editor's hearing of them comes after.
  document.addEventListener(
    "keydown",
    (event) => {
      if (!isShown()) return;
      const isOpen = $(".cell-dialog").open;
      if ((event.ctrlKey || event.metaKey) && event.key === "Enter" && !event.isComposing) {
        event.preventDefault();
        event.stopImmediatePropagation();
        if (!isOpen) run();
      } else if (event.key === "Escape" && running && !isOpen) {
        event.preventDefault();
        event.stopImmediatePropagation();
        stop();
      } else if (isOpen && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
        step(event.key === "ArrowLeft" ? -1 : 1);
      }
    },
    { capture: true },
  );

  on("view", (name) => {
    if (name !== "compare") return;
    if (!fields.prompt.value) takeEditorsText();
    appear();
  });
  on("controls", () => {
    showSettings();
    if (isShown()) formChanged();
  });
  on("status", (status) => {
    const isKnown = planned && (planned.at_once > 0 || planned.message);
    if (isShown() && status.state === "ready" && !isKnown) formChanged();
    else if (planned) showPlan();
  });
  part.addEventListener("change", showSettings);

  function appear() {
    for (const area of $$("textarea")) grow(area);
    showSettings();
    formChanged();
  }

  // Braces stand here, for in the template they would be read as its own.
  $("#compare-template-help").textContent =
    "{name} stands for each of the values given below, one on a line; several combine. {{ and }} are braces of the text, \\n in a value is a line break.";
  fields.prompt.placeholder = "Once upon a time there was a {animal} who";
  fields.prompt.addEventListener("input", () => grow(fields.prompt));
  for (const name of ["columns", "rows"]) fields[name].values.addEventListener("input", () => grow(fields[name].values));
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $('[data-do="run"] kbd').textContent = "⌘⏎";

  // What was there before a reload; whatever lies in the storage that is not ours is left alone.
  const savedForm = readJSON(FORM_KEY);
  fillForm(savedForm?.version === 1 ? savedForm.form : null);
  const savedGrid = readJSON(GRID_KEY);
  if (savedGrid?.version === 1) {
    try {
      for (const cell of savedGrid.grid.cells) cell.end ?? leaveOff(cell, "The page was left.");
      showGrid(savedGrid.grid);
      showProgress();
    } catch {
      grid = null;
      $(".compare-results").hidden = true;
    }
  }
  if (isShown()) {
    if (!fields.prompt.value) takeEditorsText();
    appear();
  }
}
