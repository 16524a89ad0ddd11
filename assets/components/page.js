// Page-wide functions: switching views, "Skip to the text", and `gptj`, which gives Gradio's event scripts
// and the tests access to the modules.

import { emit, on } from "../core/events.js";
import "../core/recorder.js";
import { sessions } from "../core/sessions.js";
import { t } from "../core/i18n.js";
import { state, useControls, withWanted } from "../core/state.js";
import { translateGradio } from "./language.js";

const root = document.documentElement;
const { views } = window.gptj;

export const shownView = () => root.dataset.view;

/** Show a view. Its name is put into the address, so that the browser's Back button works. @param {string} name */
export function show(name, { push = true } = {}) {
  if (!views.includes(name) || root.dataset.view === name) return;
  // a modal dialog that stays open in a hidden view makes the whole page inert
  for (const dialog of /** @type {NodeListOf<HTMLDialogElement>} */ (document.querySelectorAll("dialog[open]"))) dialog.close();
  root.dataset.view = name;
  window.scrollTo(0, 0);
  if (push) history.pushState(null, "", name === views[0] ? location.pathname + location.search : `#${name}`);
  markTab();
  emit("view", name);
}

/** Mark the tab of the view that is shown. */
export function markTab() {
  for (const tab of document.querySelectorAll("[data-goes-to]")) {
    if (tab.getAttribute("data-goes-to") === root.dataset.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

const viewInAddress = () => (views.includes(location.hash.slice(1)) ? location.hash.slice(1) : views[0]);
root.dataset.view = viewInAddress();
for (const change of ["popstate", "hashchange"]) {
  window.addEventListener(change, () => show(viewInAddress(), { push: false }));
}

/** Focus the text of the view that is shown, else the view. */
export function focusText() {
  const view = document.getElementById(`view-${root.dataset.view}`);
  const shown = [...(view?.querySelectorAll("textarea") ?? [])].find((area) => area.checkVisibility());
  const place = /** @type {HTMLElement | null | undefined} */ (view?.querySelector(".page textarea")) ?? shown ?? view;
  if (place === view) view?.setAttribute("tabindex", "-1");
  place?.focus();
}

document.addEventListener("click", (event) => {
  if (!(event.target instanceof Element)) return;
  const tab = event.target.closest("[data-goes-to]");
  if (tab) show(tab.getAttribute("data-goes-to") ?? "");
  if (!event.target.closest(".skip")) return;
  event.preventDefault();
  focusText();
});

// Gradio's accordions do not expose whether they are open.
function markOpenGroups() {
  for (const title of document.querySelectorAll("#controls .label-wrap")) {
    title.setAttribute("aria-expanded", String(title.classList.contains("open")));
  }
}

on("controls", () => {
  const controls = document.getElementById("controls");
  if (!controls || controls.dataset.watched) return;
  controls.dataset.watched = "true";
  markOpenGroups();
  const changes = { subtree: true, childList: true, attributeFilter: ["class"] };
  new MutationObserver(markOpenGroups).observe(controls, changes);
});

root.style.setProperty("--not-served", JSON.stringify(t("panel.not_served")));
root.style.setProperty("--word-off", JSON.stringify(t("text.off"))); // for the style of the panel
document.title = t("top.gpt_j_playground");
translateGradio();

Object.assign(window.gptj, { emit, show, state, sessions, useControls, withWanted });
