// The help: a dialog with the page's settings, the shortcuts, and a tour. Buttons with data-help open it.

import { t } from "../../core/i18n.js";
import { keyName } from "../../core/keys.js";
import * as storage from "../../core/storage.js";
import { isComposing, isTextField, make, makeButton, onPress } from "../dom.js";
import { offerLanguages } from "../language.js";
import { offerThemes } from "../theme.js";
import { hasBeenToured, startTour } from "./tour.js";

const SIZE = "gptj-playground/text-size";
const USUAL = "1";
/** @type {[string, string][]} */
const SIZES = [["0.875", "help.size_small"], [USUAL, "help.size_usual"], ["1.25", "help.size_large"], ["1.5", "help.size_larger"]];
const SHORTCUTS = [
  ["Ctrl Enter", "help.generate"],
  ["Esc", "help.stop"],
  ["Alt Enter", "help.at_caret"],
  ["Alt Shift Enter", "help.fill"],
  ["Ctrl Z", "help.undo"],
  ["Ctrl Shift Z", "help.redo"],
  ["Alt T", "help.tokens"],
  ["Alt ↓", "help.token"],
  ["?", "help.this"],
];

/** The chosen text size as a factor. */
function chosenSize() {
  const size = storage.read(SIZE) ?? USUAL;
  return SIZES.some(([factor]) => factor === size) ? size : USUAL;
}

const showSize = () => document.documentElement.style.setProperty("--text-scale", chosenSize());

/** @param {HTMLSelectElement} list */
function offerSizes(list) {
  for (const [factor, key] of SIZES) list.add(new Option(t(key), factor));
  list.value = chosenSize();
  list.addEventListener("change", () => {
    storage.write(SIZE, list.value);
    showSize();
  });
}

/** @param {string} label @param {(list: HTMLSelectElement) => void} fill */
function choice(label, fill) {
  const row = make("label", "", label);
  const list = row.appendChild(make("select"));
  fill(list);
  return row;
}

function shortcuts() {
  const table = make("dl", "help-keys");
  for (const [keys, key] of SHORTCUTS) {
    const row = table.appendChild(make("div"));
    const shown = row.appendChild(make("dt"));
    for (const one of keys.split(" ")) shown.append(make("kbd", "", keyName(one)));
    row.append(make("dd", "", t(key)));
  }
  return table;
}

/** @param {HTMLElement} root where the dialog is put */
export function makeHelp(root) {
  showSize();
  const dialog = make("dialog", "help fields floating");
  dialog.setAttribute("aria-labelledby", "help-title");

  function draw() {
    const title = make("h2", "", t("help.title"));
    title.id = "help-title";
    const head = make("header", "title-row");
    head.append(title, makeButton("quiet", "✕", () => dialog.close(), { "aria-label": t("common.close") }));
    const themes = choice(t("help.theme"), (list) => {
      for (const name of ["system", "light", "dark"]) list.add(new Option(t(`theme.${name}`), name));
      offerThemes(list);
    });
    const choices = make("div", "help-choices");
    choices.append(themes, choice(t("help.size"), offerSizes), choice(t("help.language"), offerLanguages));
    const tour = makeButton("help-tour", t("help.take_tour"), () => {
      dialog.close();
      startTour();
    });
    dialog.replaceChildren(head, choices, make("h3", "", t("help.shortcuts")), shortcuts(), tour);
  }

  function open() {
    draw();
    root.append(dialog);
    dialog.showModal();
  }

  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close()); // on the backdrop
  onPress(document, { open, tour: () => startTour(), "no-tour": () => startTour({ isRefused: true }) }, "help");
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || isComposing(event)) return;
    if (isTextField(event.target) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    open();
  });
  document.documentElement.toggleAttribute("data-toured", hasBeenToured());
}
