// The panel's display: controls that are off look off, and a closed group shows how many of its controls are
// changed. Emits the values as the event "controls".

import { emit } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { isInitial, state } from "../../core/state.js";

/**
 * Called by Gradio whenever a value changed. `table` has an entry for each control.
 * @param {{name: string, group: string, off: number | null, initial: any}[]} table @param {any[]} values in its order
 */
export function showControls(table, values) {
  requestAnimationFrame(() => {
    const changed = /** @type {Record<string, number>} */ ({});
    table.forEach(({ name, group, off, initial }, i) => {
      const differs = !isInitial(values[i], initial);
      changed[group] = (changed[group] ?? 0) + Number(differs);
      const control = document.getElementById(`control-${name}`); // absent in a closed group
      control?.toggleAttribute("data-changed", differs);
      control?.toggleAttribute("data-off", off !== null && Number(values[i]) === off);
    });
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
