// The choice between light, dark and the system's theme; boot.js applies it.

import { write } from "../core/storage.js";

/** @param {HTMLSelectElement} list */
export function offerThemes(list) {
  list.value = window.gptj.theme;
  list.dataset.chooses = "theme";
  list.addEventListener("change", () => {
    write("gptj-playground/theme", list.value);
    window.gptj.setTheme(list.value);
    for (const other of /** @type {NodeListOf<HTMLSelectElement>} */ (document.querySelectorAll('[data-chooses="theme"]'))) other.value = list.value;
  });
}
