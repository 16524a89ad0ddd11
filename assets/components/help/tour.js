// A tour of five steps: a card beside each part of the page that it explains. It can be left at any step, for good.

import { t } from "../../core/i18n.js";
import * as storage from "../../core/storage.js";
import { isEscape, make, makeButton } from "../dom.js";
import { focusText, show } from "../page.js";

const KEY = "gptj-playground/tour";
const GAP = 12; // pixels between a card and what it explains
const STEPS = [
  [".editor .sheet", "tour.write"],
  ['[data-action="generate"]', "tour.generate"],
  ['#controls, [data-action="controls"]', "tour.controls"],
  ['[data-action="tokens"]', "tour.tokens"],
  [".views", "tour.views"],
];

export const hasBeenToured = () => storage.read(KEY) !== null;

/** @param {string} selector the first of these parts that is shown */
const part = (selector) => [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(selector))].find((node) => node.offsetParent && node.getBoundingClientRect().left < innerWidth);

export function startTour({ isRefused = false } = {}) {
  storage.write(KEY, "done");
  document.documentElement.toggleAttribute("data-toured", true);
  if (isRefused || document.querySelector(".tour")) return;
  show("write");
  const card = make("section", "tour floating");
  card.setAttribute("role", "dialog");
  card.setAttribute("aria-label", t("help.take_tour"));
  card.tabIndex = -1;
  let at = 0;
  /** @type {HTMLElement | undefined} */
  let marked;

  function end() {
    marked?.classList.remove("is-toured");
    removeEventListener("resize", place);
    card.remove();
    focusText(); // what opened the tour may be hidden now
  }

  /** @param {number} step */
  function go(step) {
    at = step;
    const [selector, key] = STEPS[at];
    marked?.classList.remove("is-toured");
    marked = part(selector);
    marked?.classList.add("is-toured");
    const isLast = at === STEPS.length - 1;
    const foot = make("p", "button-row");
    foot.append(
      make("span", "tour-step", t("tour.step", { step: at + 1, steps: STEPS.length })),
      ...(at ? [makeButton("", t("tour.back"), () => go(at - 1))] : [makeButton("", t("tour.skip"), end)]),
      makeButton("filled", t(isLast ? "tour.end" : "tour.next"), () => (isLast ? end() : go(at + 1))),
    );
    card.replaceChildren(make("p", "", t(key)), foot);
    place();
    card.focus();
  }

  // Put the card below the part, above it, before it, or over its middle, wherever there is room.
  function place() {
    const box = marked?.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = card;
    if (!box) return;
    let top = box.bottom + GAP;
    if (top + height > innerHeight) top = box.top - height - GAP;
    let left = box.left + (box.width - width) / 2;
    if (top < 0) {
      top = (Math.max(0, box.top) + Math.min(innerHeight, box.bottom) - height) / 2;
      if (box.left - width - 2 * GAP > 0) left = box.left - width - GAP;
    }
    left = Math.min(Math.max(GAP, left), innerWidth - width - GAP);
    Object.assign(card.style, { top: `${top}px`, left: `${left}px` });
  }

  card.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (isEscape(event)) end();
  });
  addEventListener("resize", place);
  document.querySelector(".gradio-container")?.append(card);
  go(0);
}
