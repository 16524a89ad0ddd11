// State shared by all modules of the page: the controls, the model's status, the model's last words.

import { emit, on } from "./events.js";

const SET_MS = 1000;
const FORGET_MS = 30_000; // longer than a busy browser takes

let wanted = /** @type {Controls} */ ({}); // the values being set

export const state = {
  /** @type {Controls} */ controls: {},
  /** @type {Controls} */ defaults: {},
  /** @type {Status | null} */ status: null,
  /** The model's last words and the editor's text before them; set by the editor. */
  lastRun: () => ({ prompt: "", continuation: "" }),
};

on("controls", (values) => (state.controls = values));
on("status", (status) => (state.status = status));

/**
 * Set the controls in `values`; the others stay unchanged. An event of the editor then sets them in Gradio, by
 * `withWanted`. Resolves when the controls have the values, or after a second.
 * @param {Controls} values @returns {Promise<void>}
 */
export function useControls(values) {
  const isSet = () => Object.entries(values).every(([name, value]) => String(state.controls[name]) === String(value));
  wanted = { ...wanted, ...values };
  emit("use-controls");
  return new Promise((resolve) => {
    const end = on("controls", () => isSet() && done());
    const timers = [setTimeout(resolve, SET_MS), setTimeout(() => done(), FORGET_MS)];
    const done = () => {
      for (const [name, value] of Object.entries(values)) if (wanted[name] === value) delete wanted[name];
      timers.forEach(clearTimeout);
      end();
      resolve();
    };
    if (isSet()) done();
  });
}

/** The values of the controls `names`: those being set, else Gradio's present `values`. @param {string[]} names @param {any[]} values */
export const withWanted = (names, values) => names.map((name, i) => (name in wanted ? wanted[name] : values[i]));

/** The controls of `values` that differ from their initial values, as sessions and branches keep them. @param {Controls} values @returns {Controls} */
export function changedControls(values) {
  const changed = /** @type {Controls} */ ({});
  for (const [name, value] of Object.entries(values)) {
    const initial = state.defaults[name];
    if (!isInitial(value, initial)) changed[name] = typeof initial === "number" ? Number(value) : (value ?? "");
  }
  return changed;
}

/** Whether a control's value is its initial one; number fields give text. @param {any} value @param {any} initial */
export const isInitial = (value, initial) =>
  typeof initial === "number" ? value !== "" && Number(value) === initial : (value ?? "") === initial;
