// A visitor's own presets: named settings, kept in the browser. `default` names the one that new texts begin with.

import { t } from "./i18n.js";
import * as storage from "./storage.js";
import { readTextFile } from "./text_file.js";

/** @typedef {{name: string, controls: Controls}} Preset controls that differ from their initial values */
/** @typedef {{presets: Preset[], default: string | null}} Presets */

export const STORAGE = "gptj-playground/presets";
const VERSION = 1;
export const MOST_PRESETS = 100;
export const LONGEST_NAME = 60; // UTF-16 units, as `maxlength` counts them

/** The valid presets in stored or exported data. @param {any} kept @returns {Presets | null} */
export function readPresets(kept) {
  if (kept?.version !== VERSION || !Array.isArray(kept.presets)) return null;
  const byName = /** @type {Map<string, Preset>} */ (new Map());
  for (const one of kept.presets) {
    const { name, controls } = one ?? {};
    if (typeof name !== "string" || !name.trim() || name.length > LONGEST_NAME) continue;
    if (typeof controls !== "object" || !controls || Array.isArray(controls)) continue;
    const values = Object.entries(controls).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
    byName.set(name, { name, controls: Object.fromEntries(values) });
  }
  return { presets: [...byName.values()], default: byName.has(kept.default) ? kept.default : null };
}

/** @returns {Presets} */
export const loadPresets = () => readPresets(storage.readJSON(STORAGE)) ?? { presets: [], default: null };

/** @param {Presets} own */
const written = (own) => JSON.stringify({ version: VERSION, ...own }, null, 2);

/** Returns whether the browser keeps them. @param {Presets} own */
export const keepPresets = (own) => storage.write(STORAGE, written(own));

/** The file that holds them. @param {Presets} own */
export const exportPresets = (own) => ({ file: "gptj-presets.json", type: "application/json", content: written(own) });

/** The presets with one added, or replaced if the name exists; raises an error whose message is for people. @param {Presets} own @param {Preset} preset @returns {Presets} */
export function withPreset(own, preset) {
  const others = own.presets.filter(({ name }) => name !== preset.name);
  if (others.length >= MOST_PRESETS) throw new Error(t("presets.too_many", { most: MOST_PRESETS }));
  return { ...own, presets: [...others, preset] };
}

/** @param {Presets} own @param {string} name @returns {Presets} */
export const withoutPreset = (own, name) => ({
  presets: own.presets.filter((one) => one.name !== name),
  default: own.default === name ? null : own.default,
});

/** The settings that new texts begin with, null where no preset is the default. @returns {Controls | null} */
export function defaultControls() {
  const own = loadPresets();
  return own.presets.find(({ name }) => name === own.default)?.controls ?? null;
}

/** The presets of a file; raises an error whose message is for people. @param {File} file @returns {Promise<Presets>} */
export async function readPresetFile(file) {
  const text = await readTextFile(file);
  let found = null;
  try {
    found = readPresets(JSON.parse(text));
  } catch {
    // reported below
  }
  if (!found?.presets.length) throw new Error(t("presets.no_file"));
  return found;
}
