// The menu in the editor's bar, and opening and closing dialogs from it.

import { find, isEscape } from "../dom.js";

const opener = () => find(document, '[data-share="menu"]');

export const isMenuOpen = () => document.getElementById("share-menu")?.hidden === false;

/** @param {boolean} open */
export function showMenu(open) {
  const menu = find(document, "#share-menu");
  menu.hidden = !open;
  opener().setAttribute("aria-expanded", String(open));
  if (open) find(menu, "button").focus();
}

/** The focus goes back to the menu's button when the dialog closes. @param {HTMLDialogElement} dialog */
export function openDialog(dialog) {
  showMenu(false);
  opener().focus();
  dialog.showModal();
}

document.addEventListener("click", ({ target }) => {
  if (!(target instanceof Element)) return;
  if (isMenuOpen() && !target.closest(".more")) showMenu(false);
  if (target instanceof HTMLDialogElement && target.matches(".share-dialog")) target.close(); // a click on the backdrop
});

// Escape closes the menu and nothing else.
document.addEventListener(
  "keydown",
  (event) => {
    if (!isMenuOpen()) return;
    const items = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#share-menu button:not([hidden])")]);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (isEscape(event)) {
      event.stopPropagation();
      showMenu(false);
      opener().focus();
    } else if (step) {
      event.preventDefault();
      const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      items[(at + step + items.length) % items.length].focus();
    }
  },
  { capture: true },
);
