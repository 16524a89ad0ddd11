// Where a text ends that reaches the length asked for: there, or with a whole sentence. The choice is kept in the
// browser; its field stands in the panel below the length.

import * as storage from "../../core/storage.js";

const KEY = "gptj-playground/ending";

export const endingOf = () => storage.read(KEY) ?? "";

/** Called when the panel is there. */
export function offerEndings() {
  const field = document.querySelector("#ending select");
  if (!(field instanceof HTMLSelectElement)) return;
  field.value = endingOf();
  field.addEventListener("change", () => storage.write(KEY, field.value));
}
