// The panel's display: marks controls that are off, and shows how many controls of a closed group are changed.
// Emits the values as the event "controls".

import { make } from "../../components/dom.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { isInitial, state } from "../../core/state.js";
import { offerEndings } from "./ending.js";
import { mendNumberFields } from "./number_fields.js";
import { offerPresets } from "./own_presets.js";

// One button shows and hides the definitions of all controls.
function offerDefinitions() {
  const button = document.querySelector("#show-definitions button");
  button?.addEventListener("click", () => {
    const isShown = document.getElementById("controls")?.classList.toggle("shows-definitions");
    button.setAttribute("aria-pressed", String(isShown));
    putDefinitions();
  });
}

// The exact definition of each control, below it. Controls of a closed group are not in the DOM.
function putDefinitions() {
  for (const control of document.querySelectorAll("#controls.shows-definitions .control[id]:not(:has(.definition))")) {
    const name = control.id.replace("control-", "");
    const definition = make("p", "definition");
    definition.append(make("code", "", name), " ", t(`control.${name}.definition`));
    control.append(definition);
  }
}

// Controls that the model's server lacks are inert, except changed ones, which can be reset.
/** @param {string[]} names */
function markLacking(names) {
  for (const control of document.querySelectorAll("#controls .control[id]")) {
    const isLacking = names.includes(control.id.replace("control-", ""));
    control.toggleAttribute("data-lacking", isLacking);
    control.toggleAttribute("inert", isLacking && !control.hasAttribute("data-changed"));
  }
}

/**
 * Called by Gradio whenever a value changed. `table` has an entry for each control; one that is `part_of` another has
 * no effect while that is off.
 * @param {{name: string, group: string, kind: string, off: number | null, part_of: string | null, initial: any,
 *          minimum: number, maximum: number}[]} table
 * @param {any[]} values in its order
 */
export function showControls(table, values) {
  if (!Object.keys(state.defaults).length) {
    const takesNumber = ["integer", "number", "optional_integer"];
    const fields = table.filter(({ kind }) => takesNumber.includes(kind));
    offerDefinitions();
    offerEndings();
    on("status", (status) => markLacking(status.model?.served?.lacks ?? []));
    requestAnimationFrame(offerPresets); // the values are known then
    mendNumberFields(fields.map((field) => ({ ...field, isWhole: field.kind !== "number" })));
  }
  const isOff = (/** @type {string | null} */ name) => {
    const place = table.findIndex((one) => one.name === name);
    if (place < 0 || table[place].off === null) return false;
    return values[place] === table[place].off || (values[place] !== "" && Number(values[place]) === table[place].off);
  };
  requestAnimationFrame(() => {
    const changed = /** @type {Record<string, number>} */ ({});
    table.forEach(({ name, group, part_of, initial }, i) => {
      const differs = !isInitial(values[i], initial);
      changed[group] = (changed[group] ?? 0) + Number(differs);
      const control = document.getElementById(`control-${name}`); // absent in a closed group
      control?.toggleAttribute("data-changed", differs);
      control?.toggleAttribute("data-off", isOff(name) || isOff(part_of));
    });
    markLacking(state.status?.model?.served?.lacks ?? []);
    putDefinitions();
    for (const [group, count] of Object.entries(changed)) {
      const title = document.querySelector(`#${group} > button > span`);
      if (count) title?.setAttribute("data-changed", t("panel.changed", { count }));
      else title?.removeAttribute("data-changed");
    }
  });
  state.defaults = Object.fromEntries(table.map(({ name, initial }) => [name, initial]));
  emit("controls", Object.fromEntries(table.map(({ name }, i) => [name, values[i]])));
  return [];
}
