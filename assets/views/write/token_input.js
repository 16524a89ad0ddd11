// Pointer and keyboard input for the tokens in the text.

import { find, isComposing, letterOf } from "../../components/dom.js";

/** @typedef {import("./tokens.js").TokenView} TokenView */

/** @param {TokenView} view */
export function listen(view) {
  const { inspector, bar } = view;
  const { area, box } = view.sheet;
  listenToPointer(view);
  box.addEventListener(
    "scroll",
    () => {
      if (!inspector.isPinned) inspector.hide();
      if (view.isOn && Math.abs(box.scrollTop - view.colours.scrolledTo) > box.clientHeight / 2) view.colour();
    },
    { passive: true },
  );
  new ResizeObserver(() => view.isOn && view.colour()).observe(box);
  document.addEventListener("selectionchange", () => {
    if (view.isOn && document.activeElement === area) view.showCaret();
  });
  document.addEventListener("keydown", (event) => key(view, event), true);
  bar.plot.addEventListener("click", ({ clientX }) => {
    const { left, width } = bar.plot.getBoundingClientRect();
    const offset = Math.round(((clientX - left) / width) * view.text().length);
    const nearest = view.cells.find(({ to }) => to > offset) ?? view.cells.at(-1);
    if (!nearest) return;
    view.sheet.select([nearest.from, nearest.from]);
    inspector.show(nearest, { isPinned: true });
  });
  bar.end.addEventListener("click", () => {
    const cell = view.memory.endOf(view.text());
    if (cell) inspector.show(cell, { isPinned: true, takeFocus: true });
  });
  bar.score.addEventListener("click", () => (view.asking ? view.stopScore() : view.askForScore()));
}

/** A mouse shows the token that it rests on; a touch pins it. @param {TokenView} view */
function listenToPointer(view) {
  const { inspector } = view;
  const { area } = view.sheet;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const later = (/** @type {() => void} */ action, /** @type {number} */ ms) => {
    clearTimeout(waiting);
    waiting = setTimeout(action, ms);
  };
  area.addEventListener("pointermove", ({ pointerType, buttons, clientX, clientY }) => {
    if (!view.isOn || pointerType !== "mouse" || inspector.isPinned) return;
    if (buttons) return later(() => inspector.hide(), 0);
    later(() => {
      const cell = view.cellUnder(clientX, clientY);
      if (cell) inspector.show(cell);
      else inspector.hide();
    }, inspector.cell ? 60 : 220);
  });
  // a touch causes pointerleave before its click
  const leave = (/** @type {PointerEvent} */ { pointerType }) => {
    if (pointerType === "mouse" && !inspector.isPinned) later(() => inspector.hide(), 350);
  };
  area.addEventListener("pointerleave", leave);
  inspector.box.addEventListener("pointerenter", () => clearTimeout(waiting));
  inspector.box.addEventListener("pointerleave", leave);
  area.addEventListener("click", (event) => {
    const { pointerType, clientX, clientY } = /** @type {PointerEvent} */ (event);
    const cell = view.isOn && pointerType === "touch" ? view.cellUnder(clientX, clientY) : null;
    if (!cell) return;
    clearTimeout(waiting);
    area.blur(); // hides the on-screen keyboard, which would cover the sheet
    inspector.show(cell, { isPinned: true });
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!inspector.box.contains(/** @type {Node} */ (target))) inspector.hide();
  });
}

/** @param {TokenView} view @param {KeyboardEvent} event */
function key(view, event) {
  const { inspector } = view;
  const { altKey, ctrlKey, metaKey, shiftKey, key } = event;
  if (isComposing(event)) return;
  const inText = document.activeElement === view.sheet.area;
  const withAlt = altKey && !ctrlKey && !metaKey && !shiftKey;
  if (withAlt && letterOf(event) === "t") {
    event.preventDefault();
    find(view.root, '[data-action="tokens"]').click();
  } else if (withAlt && key === "ArrowDown" && view.isOn && inText) {
    event.preventDefault();
    const cell = view.cellAtCaret;
    if (cell) inspector.show(cell, { isPinned: true, takeFocus: true });
  } else if (key === "Escape" && inspector.cell) {
    if (inspector.isPinned) {
      event.preventDefault();
      event.stopPropagation(); // Escape must not stop the model too
    }
    inspector.hide({ giveFocus: true });
  } else if (inText && !["Alt", "Control", "Shift", "Meta"].includes(key)) {
    inspector.hide();
  }
}
