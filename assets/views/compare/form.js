// The form of a comparison: prompt, or template with values of placeholders; axes; length and seeds.

import { editorsField, finder, make, typeInto } from "../../components/dom.js";
import { shorten } from "../../core/characters.js";
import { helpOf, labelOf, nodes, t } from "../../core/i18n.js";
import { sentOf } from "../../core/long_text.js";
import { state } from "../../core/state.js";

const MAX_NAMES = 100;
const ALWAYS_SHOWN = ["temperature", "top_p"];
/** @type {["columns", "rows"]} */
const AXES = ["columns", "rows"];

/** @typedef {{name: string, label: string, group: string, help: string, definition: string, suggestion: string}} Axis */

export class Form {
  /** @param {HTMLElement} root @param {{axes: Axis[], presets: Record<string, Controls>, controls: any[]}} props */
  constructor(root, { axes, presets, controls }) {
    this.$ = finder(root);
    this.root = root;
    this.axes = axes;
    this.presets = presets;
    this.controls = controls;
    this.prompt = this.$("#compare-prompt", HTMLTextAreaElement);
    this.isTemplate = this.$("#compare-is-template", HTMLInputElement);
    this.length = this.$("#compare-length", HTMLInputElement);
    const axis = (/** @type {string} */ name) => ({
      control: this.$(`[data-axis="${name}"]`, HTMLSelectElement),
      values: this.$(`[data-values="${name}"]`, HTMLTextAreaElement),
      typed: new Map(), // the values last typed for each control
    });
    this.fields = { columns: axis("columns"), rows: axis("rows") };
    this.placeholders = new Map(); // typed values of each placeholder so far
    this.prompt.addEventListener("input", () => grow(this.prompt));
    for (const name of AXES) this.fillAxis(name);
  }

  /** @param {"columns" | "rows"} name */
  fillAxis(name) {
    const { control, values, typed } = this.fields[name];
    control.append(new Option(t("compare.nothing"), ""));
    let group = /** @type {HTMLOptGroupElement | null} */ (null);
    for (const axis of this.axes) {
      const title = axis.group && t(`group.${axis.group}`);
      if (title && group?.label !== title) {
        group = control.appendChild(make("optgroup"));
        group.label = title;
      }
      (title && group ? group : control).append(new Option(labelOf(axis.name), axis.name));
    }
    control.addEventListener("change", () => this.showAxis(name));
    values.addEventListener("input", () => {
      typed.set(control.value, values.value);
      grow(values);
    });
  }

  /** The form for the server, with these controls. Where they leave out the beginning, only the end of a very long text without placeholders is in it. @param {Controls} controls */
  asked(controls) {
    const form = this.read();
    const isTemplate = form.is_template && /[{}]/.test(form.prompt);
    return { ...form, is_template: isTemplate, prompt: isTemplate ? form.prompt : sentOf(form.prompt, controls.truncate), controls };
  }

  /** The form as it is kept. */
  read() {
    const axis = (/** @type {"columns" | "rows"} */ name) => {
      const { control, values } = this.fields[name];
      return { control: control.value, values: control.value ? values.value : "" };
    };
    return {
      prompt: this.prompt.value,
      is_template: this.isTemplate.checked,
      placeholders: [...this.placeholders].slice(-MAX_NAMES), // includes removed names, which may return
      rows: axis("rows"),
      columns: axis("columns"),
      length: this.length.value,
      seeds: /** @type {HTMLInputElement | null} */ (this.root.querySelector('[name="compare-seeds"]:checked'))?.value ?? "same",
    };
  }

  /** @param {any} form what `read` gave, or anything else */
  fill(form) {
    const text = (/** @type {any} */ value, /** @type {string} */ otherwise) => (typeof value === "string" ? value : otherwise);
    this.prompt.value = text(form?.prompt, "");
    this.isTemplate.checked = form?.is_template !== false;
    this.length.value = text(form?.length, "60");
    const choice = form?.seeds === "different" ? "different" : "same";
    this.$(`[name="compare-seeds"][value="${choice}"]`, HTMLInputElement).checked = true;
    for (const pair of Array.isArray(form?.placeholders) ? form.placeholders : []) {
      if (Array.isArray(pair) && typeof pair[0] === "string") this.placeholders.set(pair[0], text(pair[1], ""));
    }
    this.showPlaceholders([...this.placeholders.keys()]);
    for (const name of AXES) {
      const { control, typed } = this.fields[name];
      const wanted = text(form?.[name]?.control, name === "columns" && !form ? "temperature" : "");
      control.value = this.axes.some((axis) => axis.name === wanted) ? wanted : "";
      const values = text(form?.[name]?.values, "");
      if (wanted && values) typed.set(wanted, values);
      this.showAxis(name);
    }
  }

  /** Show the values and the help of an axis's control; suggested values if none were typed. @param {"columns" | "rows"} name */
  showAxis(name) {
    const { control, values, typed } = this.fields[name];
    const axis = this.axes.find((one) => one.name === control.value);
    values.hidden = !axis;
    values.value = axis ? (typed.get(axis.name) ?? axis.suggestion) : "";
    const help = this.$(`[data-field="${name}"] .compare-help`);
    help.textContent = axis ? helpOf(axis.name) : t(name === "rows" ? "compare.row_a_prompt" : "compare.one_column");
    help.title = axis?.group ? t(`control.${axis.name}.definition`) : "";
    for (const other of AXES) grow(this.fields[other].values);
  }

  /** @param {string[]} names */
  showPlaceholders(names) {
    const box = this.$(".compare-placeholders");
    const fields = [...box.children];
    const there = new Map(fields.map((field) => [field.querySelector("textarea")?.dataset.name ?? "", field]));
    if (there.size === names.length && names.every((name) => there.has(name))) return;
    for (const [name, field] of there) if (!names.includes(name)) field.remove();
    names.forEach((name, i) => {
      const field = there.get(name) ?? this.newPlaceholder(name);
      if (box.children[i] !== field) box.insertBefore(field, box.children[i] ?? null);
    });
  }

  /** @param {string} name */
  newPlaceholder(name) {
    const field = make("div", "compare-field");
    field.dataset.field = `values of ${name}`;
    const label = field.appendChild(make("label"));
    const area = make("textarea");
    Object.assign(area, { rows: 3, spellcheck: false, placeholder: t("compare.one_a_line") });
    area.dataset.name = name;
    area.value = this.placeholders.get(name) ?? "";
    area.addEventListener("input", () => {
      this.placeholders.set(name, area.value);
      grow(area);
    });
    label.append(...nodes("compare.values_of", { name: make("bdi", "compare-name", `{${name}}`) }), area);
    return field;
  }

  /** The prompt of the model's last words if they end the text, else the whole text. */
  takeEditorsText() {
    const whole = editorsField()?.value ?? "";
    const { prompt, continuation } = state.lastRun();
    const text = continuation && whole === prompt + continuation ? prompt : whole;
    if (/[{}]/.test(text)) this.isTemplate.checked = false; // its braces are text
    typeInto(this.prompt, text);
  }

  /** The view is shown: fit fields to their text. */
  grow() {
    for (const area of this.root.querySelectorAll("textarea")) grow(area);
  }

  /** @param {string | null | undefined} field the one that is wrong */
  markWrong(field) {
    for (const box of this.root.querySelectorAll("[data-field]")) {
      const wrong = box.getAttribute("data-field") === field;
      box.toggleAttribute("data-wrong", wrong);
      for (const input of box.querySelectorAll("textarea, input:not([type=checkbox])")) {
        if (wrong) input.setAttribute("aria-invalid", "true");
        else input.removeAttribute("aria-invalid");
      }
    }
  }

  /** @param {string} field the one that is wrong */
  focus(field) {
    for (const box of this.root.querySelectorAll("[data-field]")) {
      if (box.getAttribute("data-field") === field) /** @type {HTMLElement | null} */ (box.querySelector("textarea, input"))?.focus();
    }
  }

  /** Show the Write panel's values, which the controls without an axis have. */
  showSettings() {
    const { columns, rows } = this.fields;
    const set = new Set([columns.control.value, rows.control.value, "max_new_tokens"]);
    if (set.has("preset")) for (const name of Object.keys(Object.values(this.presets)[0])) set.add(name);
    this.$(".compare-settings span").textContent = describeSettings(this.controls, set);
  }
}

/**
 * The values of the Write panel that differ from the initial ones, except those of the controls in `skipped`.
 * @param {{name: string, initial: any}[]} controls @param {Set<string>} [skipped]
 */
export function describeSettings(controls, skipped = new Set()) {
  const said = [];
  for (const { name, initial } of controls) {
    const value = state.controls[name] ?? "";
    if (skipped.has(name) || value === "" || (value === initial && !ALWAYS_SHOWN.includes(name))) continue;
    const written = typeof value === "boolean" ? t(value ? "text.on" : "text.off") : String(value).replaceAll("\n", ", ");
    said.push(`${labelOf(name)} ${shorten(written, 40)}`);
  }
  return said.length ? t("compare.as_on_write", { settings: said.join(" · ") }) : t("compare.all_as_on_write");
}

/** Fit a field to its text, up to a height. @param {HTMLTextAreaElement} area */
export function grow(area) {
  if (!area.offsetParent) return;
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 240)}px`;
}
