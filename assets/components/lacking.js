// Disables elements that need a feature which the model's server lacks, and shows the reason. Elements name the
// feature in data-needs.

import { on } from "../core/events.js";
import { t } from "../core/i18n.js";

/** @type {Record<string, {text: string, lacks: (served: Served) => boolean}>} */
const NEEDS = {
  tree: { text: "top.no_tree", lacks: () => true },
  scores: { text: "top.no_scores", lacks: ({ lacks }) => lacks.includes("echo") },
  logprobs: { text: "top.no_logprobs", lacks: ({ lacks }) => lacks.includes("logprobs") },
};

/** @param {Served | null | undefined} served */
function mark(served) {
  for (const element of document.querySelectorAll("[data-needs]")) {
    const { text, lacks } = NEEDS[element.getAttribute("data-needs") ?? ""];
    const isLacking = Boolean(served && lacks(served));
    if (isLacking === element.hasAttribute("data-lacking")) continue;
    element.toggleAttribute("data-lacking", isLacking);
    if (isLacking) {
      element.setAttribute("aria-disabled", "true");
      element.setAttribute("aria-description", t(text));
    } else {
      element.removeAttribute("aria-disabled");
      element.removeAttribute("aria-description");
    }
    show(element, isLacking ? t(text) : "");
  }
}

// The reason is shown beside a view's main button, and in the title of other elements.
/** @param {Element} element @param {string} why */
function show(element, why) {
  if (!element.matches(".filled")) {
    element.setAttribute("title", why);
    return;
  }
  const note = element.parentElement?.querySelector(".lacking-why");
  if (!why) note?.remove();
  else element.after(Object.assign(document.createElement("span"), { className: "lacking-why", textContent: why }));
}

// Disabled elements can still have the focus, so that the reason can be found; clicks on them are ignored.
export function switchOffLacking() {
  on("status", (status) => mark(status.model?.served));
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-lacking][data-needs]")) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);
}
