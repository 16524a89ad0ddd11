// The panel's list of the visitor's own presets: use, save, make the default, delete, export, import.

import { download, make, makeButton } from "../../components/dom.js";
import { on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { LONGEST_NAME, STORAGE, exportPresets, keepPresets, loadPresets, readPresetFile, withPreset, withoutPreset } from "../../core/presets.js";
import { changedControls, state, useControls } from "../../core/state.js";

/** The controls that a preset keeps: all but the seed, which is meant for one text. @param {Controls} controls @returns {Controls} */
const kept = (controls) => Object.fromEntries(Object.entries(controls).filter(([name]) => name !== "seed"));

/** Called once the panel exists. */
export function offerPresets() {
  const root = document.querySelector("#own-presets .own-presets");
  if (!root) return;
  const summary = make("summary", "link", t("presets.own"));
  const list = make("ul", "plain");
  const form = make("form", "fields");
  const name = form.appendChild(make("input"));
  Object.assign(name, { type: "text", dir: "auto", maxLength: LONGEST_NAME, placeholder: t("presets.name"), autocomplete: "off" });
  name.setAttribute("aria-label", t("presets.name"));
  const save = form.appendChild(make("button", "", t("presets.save")));
  const input = make("input");
  Object.assign(input, { type: "file", accept: ".json,application/json", hidden: true, tabIndex: -1 });
  input.setAttribute("aria-label", t("presets.import"));
  const exporting = makeButton("link", t("common.export"), () => {
    const { file, type, content } = exportPresets(loadPresets());
    download(file, type, content);
  });
  const files = make("p", "own-files");
  files.append(exporting, makeButton("link", t("presets.import"), () => input.click()), input);
  const said = make("p", "own-said");
  said.setAttribute("role", "status");
  const details = make("details");
  details.append(summary, list, form, said, files);
  root.replaceChildren(details);

  /** @param {string} text @param {[string, () => void] | null} [action] */
  function say(text, action = null) {
    said.replaceChildren(text, ...(action ? [" ", makeButton("link", action[0], action[1])] : []));
  }

  /** @param {import("../../core/presets.js").Presets} own @param {string} text @param {[string, () => void] | null} [action] */
  function change(own, text, action = null) {
    const isKept = keepPresets(own);
    say(isKept ? text : t("presets.not_kept"), isKept ? action : null);
    draw();
  }

  /** Add presets to the own ones; where that is not possible, say why, and change nothing. @param {import("../../core/presets.js").Presets} added @param {string} text */
  function add(added, text) {
    try {
      const own = added.presets.reduce(withPreset, loadPresets());
      change({ ...own, default: added.default ?? own.default }, text);
      return true;
    } catch (error) {
      say(/** @type {Error} */ (error).message);
      return false;
    }
  }

  let markers = /** @type {(() => void)[]} */ ([]); // each shows whether its preset is in use

  const isInUse = (/** @type {Controls} */ controls) => {
    const now = kept(changedControls(state.controls));
    const entries = Object.entries(controls);
    return entries.length === Object.keys(now).length && entries.every(([key, value]) => String(now[key]) === String(value));
  };

  /** @param {import("../../core/presets.js").Preset} preset @param {import("../../core/presets.js").Presets} own */
  function row(preset, own) {
    const item = make("li");
    const use = makeButton("own-name", preset.name, () => {
      useControls({ ...kept(state.defaults), ...usable(preset.controls) });
    });
    markers.push(() => use.setAttribute("aria-pressed", String(isInUse(preset.controls))));
    const isDefault = own.default === preset.name;
    const makeDefault = makeButton("quiet own-default", t("presets.default"), () => {
      const next = { ...loadPresets(), default: isDefault ? null : preset.name };
      change(next, t(isDefault ? "presets.no_default" : "presets.is_default", { name: preset.name }));
      /** @type {HTMLElement | null} */ (list.querySelector(`[data-default="${CSS.escape(preset.name)}"]`))?.focus();
    }, { "aria-pressed": String(isDefault), "aria-label": t("presets.make_default", { name: preset.name }), title: t("presets.default_help"), "data-default": preset.name });
    const remove = makeButton("quiet", "✕", () => {
      const putBack = () => add({ presets: [preset], default: isDefault ? preset.name : null }, "");
      change(withoutPreset(loadPresets(), preset.name), t("presets.deleted", { name: preset.name }), [t("common.undo"), putBack]);
      name.focus();
    }, { "aria-label": t("presets.delete", { name: preset.name }) });
    item.append(use, makeDefault, remove);
    return item;
  }

  // Leave out values that no control accepts.
  const usable = (/** @type {Controls} */ controls) =>
    Object.fromEntries(Object.entries(controls).filter(([key, value]) => Object.hasOwn(state.defaults, key) && typeof value === typeof (state.defaults[key] ?? "")));

  function draw() {
    const own = loadPresets();
    markers = [];
    list.replaceChildren(...own.presets.map((preset) => row(preset, own)));
    exporting.hidden = !own.presets.length;
    markInUse();
  }

  function markInUse() {
    for (const mark of markers) mark();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const called = name.value.trim();
    if (!called) return name.focus();
    const preset = { name: called, controls: kept(changedControls(state.controls)) };
    if (add({ presets: [preset], default: null }, t("presets.saved", { name: called }))) name.value = "";
  });
  save.type = "submit";
  input.addEventListener("change", async () => {
    const file = input.files?.[0];
    input.value = ""; // so that the same file can be chosen again
    if (!file) return;
    try {
      const found = await readPresetFile(file);
      add({ presets: found.presets, default: null }, t("presets.imported", { count: found.presets.length }));
    } catch (error) {
      say(/** @type {Error} */ (error).message);
    }
  });
  on("controls", markInUse);
  window.addEventListener("storage", ({ key }) => (key === null || key === STORAGE) && draw()); // another tab
  draw();
}
