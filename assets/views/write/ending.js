// Where a text ends that reaches the requested length: there, or with a whole sentence. The choice is kept in the
// browser; its field is below the length in the panel.

import * as storage from "../../core/storage.js";

const KEY = "gptj-playground/ending";

export const endingOf = () => storage.read(KEY) ?? "";

/** Called once the panel exists. */
export function offerEndings() {
  const field = document.querySelector("#ending select");
  if (!(field instanceof HTMLSelectElement)) return;
  field.value = endingOf();
  field.addEventListener("change", () => storage.write(KEY, field.value));
}
