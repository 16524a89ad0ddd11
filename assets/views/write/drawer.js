// On a narrow screen the controls are a drawer; a touch outside closes it.

const isOpen = () => document.body.classList.contains("controls-open");

/** @param {HTMLElement} opener the button that opens and closes it */
export function makeDrawer(opener) {
  const show = (/** @type {boolean} */ open) => {
    document.body.classList.toggle("controls-open", open);
    opener.setAttribute("aria-expanded", String(open));
    if (open) document.getElementById("close-controls")?.focus();
  };
  document.addEventListener("click", ({ target }) => {
    if (!(target instanceof Element) || !target.isConnected || opener.contains(target)) return;
    const isInside = target.closest("#controls") && !target.closest("#close-controls");
    if (isOpen() && !isInside) show(false);
  });
  return {
    toggle: () => show(!isOpen()),
    /** Returns whether it was open. */
    close() {
      if (!isOpen()) return false;
      show(false);
      opener.focus();
      return true;
    },
  };
}
