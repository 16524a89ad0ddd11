// The number fields of the panel. A field that is left empty or holds no number gets its old value back, a comma is
// a decimal sign, and a value beyond the limits becomes the nearest one, which a notice says; all before Gradio
// reads the field.

import { emit } from "../../core/events.js";
import { labelOf, t } from "../../core/i18n.js";
import { isBeyond, settled, typedNumber } from "../../core/numbers.js";

/** @typedef {{name: string, kind: string, minimum: number, maximum: number, isWhole: boolean}} Field */

/** @param {Field[]} fields the controls that take a number */
export function mendNumberFields(fields) {
  const byName = new Map(fields.map((field) => [field.name, field]));
  const before = /** @type {WeakMap<HTMLInputElement, string>} */ (new WeakMap()); // the last sound values

  /** @param {Event} event @returns {{input: HTMLInputElement, field: Field} | null} */
  function fieldOf({ target }) {
    if (!(target instanceof HTMLInputElement) || !["number", "text"].includes(target.type)) return null;
    const name = target.closest(".control")?.id.replace("control-", "") ?? "";
    const field = byName.get(name);
    return field ? { input: target, field } : null;
  }

  /** @param {string} type @param {(input: HTMLInputElement, field: Field, event: Event) => void} handle */
  const on = (type, handle) =>
    document.addEventListener(
      type,
      (event) => {
        const found = fieldOf(event);
        if (found) handle(found.input, found.field, event);
      },
      { capture: true },
    );

  on("focus", (input) => before.set(input, input.value));

  // Replace characters that a number field would refuse or misread.
  on("beforeinput", (input, field, event) => {
    const { data } = /** @type {InputEvent} */ (event);
    const put = data ? typedNumber(data, field.isWhole) : data;
    if (!data || put === data || input.type !== "number") return;
    event.preventDefault();
    document.execCommand("insertText", false, put ?? "");
  });

  let isNoticed = false; // whether the notice says that a value was corrected
  // A field that is empty for a moment keeps the control's value.
  on("input", (input, _field, event) => {
    if (isNoticed) emit("notice", "");
    isNoticed = false;
    if (input.type === "number" && input.value === "") event.stopImmediatePropagation();
  });

  /** @param {HTMLInputElement} input @param {Field} field */
  function settle(input, field) {
    const isEmpty = field.kind === "optional_integer" && !input.value.trim();
    const value = settled(input.value, field);
    const text = isEmpty ? "" : value === null ? (before.get(input) ?? "") : String(value);
    before.set(input, text);
    if (input.value === text) return;
    const typed = input.value;
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    if (!isBeyond(typed, field)) return;
    emit("notice", t("panel.beyond", { control: labelOf(field.name), ...field, typed, value: text }));
    isNoticed = true;
  }

  on("blur", settle);
  // keys such as Ctrl+Enter send the values while the field has the focus
  on("keydown", (input, field, event) => {
    if (/** @type {KeyboardEvent} */ (event).key === "Enter") settle(input, field);
  });
}
