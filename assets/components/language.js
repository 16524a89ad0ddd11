// The choice of the page's language. Translates Gradio's components, which are built with English texts.

import { labelOf, language, load, t } from "../core/i18n.js";
import { write } from "../core/storage.js";

const KEY = "gptj-playground/language"; // boot.js reads it
const AREAS = /^(control|group|panel|preset|choice)\./;
const PLACES = "#controls, .toast-wrap";

/** Fill a list with the languages; choosing another one reloads the page. @param {HTMLSelectElement} list */
export function offerLanguages(list) {
  const { languages } = window.gptj;
  for (const [code, { name }] of Object.entries(languages)) {
    const option = list.appendChild(new Option(name, code, code === language, code === language));
    option.lang = code;
  }
  list.hidden = Object.keys(languages).length < 2;
  list.addEventListener("change", () => {
    write(KEY, list.value);
    location.reload();
  });
}

/** Translate Gradio's components, now and whenever the DOM changes. */
export async function translateGradio() {
  if (language === "en") return;
  const english = Object.entries(await load("en")).filter(([key]) => AREAS.test(key));
  const keys = new Map(english.map(([key, text]) => [text, key]));

  /** @param {Node} node */
  const put = (node) => {
    if (node instanceof Text) {
      const text = node.data.trim();
      const key = keys.get(text);
      // the observer below sees each assignment, also of the same text, so this avoids an endless loop
      if (key && t(key) !== text) node.data = node.data.replace(text, () => t(key));
    } else if (node instanceof HTMLElement) {
      putAttributes(node);
      if (node.matches("[data-order]")) putOrder(node);
      else for (const child of node.childNodes) put(child);
    }
  };

  /** @param {HTMLElement} node */
  function putAttributes(node) {
    for (const name of ["aria-label", "title"]) {
      const [, kind, label = ""] = /^(number input|range slider) for (.*)$/.exec(node.getAttribute(name) ?? "") ?? [];
      const control = t(keys.get(label) ?? "text.none");
      const key = keys.get(node.getAttribute(name) ?? "");
      if (kind) node.setAttribute(name, t(kind === "number input" ? "panel.number_input" : "panel.range_slider", { control }));
      else if (key) node.setAttribute(name, t(key));
    }
  }

  for (const place of document.querySelectorAll(PLACES)) put(place);
  const changes = { subtree: true, childList: true, characterData: true };
  new MutationObserver((all) => {
    for (const { target, addedNodes } of all) {
      const element = target instanceof Element ? target : target.parentElement;
      if (element?.closest(PLACES)) for (const node of target instanceof Text ? [target] : addedNodes) put(node);
      else for (const node of addedNodes) if (node instanceof Element) for (const place of node.querySelectorAll(PLACES)) put(place);
    }
  }).observe(document.body, changes);
}

/** The order in which the controls are applied. @param {HTMLElement} node */
function putOrder(node) {
  const controls = (node.dataset.order ?? "").split(" ").map(labelOf).join(t("text.comma"));
  node.textContent = t("panel.order", { controls });
}
