// Beginnings to try: examples that suit the loaded model, and scaffolds, which ask for a few words. Both put a
// text into the editor as one step; a scaffold also sets suitable controls.

import { finder, isComposing, isRunKey, make, makeButton } from "../../components/dom.js";
import { commonStart } from "../../core/characters.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { fillScaffold } from "../../core/scaffolds.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";

/** @param {{key: string, fields?: any[]}} item an example or a scaffold */
const nameOf = ({ key, fields }) => t(fields ? `scaffold.${key}.name` : `example.${key}`);

/** @param {Component} component */
export function mount({ element, props }) {
  const $ = finder(element);
  const box = $(".scaffold");
  const form = $(".scaffold form", HTMLFormElement);
  const submit = $('.scaffold [type="submit"]', HTMLButtonElement);
  let kind = "examples";
  let set = "sample"; // until the model is known, show stories, which suit any model
  let shown = "";
  let scaffold = /** @type {any} */ (null); // the scaffold with an open form
  let opener = /** @type {HTMLElement | null} */ (null); // the button that opened it

  // ---- the row

  function show() {
    const wanted = kind === "examples" ? set : kind;
    if (wanted === shown) return;
    shown = wanted;
    /** @type {any[]} */
    const items = kind === "examples" ? props.examples[set] : props.scaffolds;
    $(".examples ul").replaceChildren(
      ...items.map((item) => {
        const isExample = kind === "examples";
        const press = (/** @type {HTMLButtonElement} */ button) => (isExample ? useExample(item) : open(item, button));
        const row = make("li");
        row.append(makeButton("", nameOf(item), press, isExample ? {} : { "aria-haspopup": "dialog" }));
        return row;
      }),
    );
    $(".examples ul").scrollLeft = 0;
  }

  const kinds = /** @type {HTMLButtonElement[]} */ ([...element.querySelectorAll("[data-kind]")]);
  for (const button of kinds) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind ?? kind;
      for (const other of kinds) other.setAttribute("aria-pressed", String(other === button));
      close();
      show();
    });
  }

  on("status", ({ model }) => {
    set = model && !model.is_sample ? "gptj" : "sample";
    show();
  });
  show();

  /** @param {{text: string}} example */
  function useExample({ text }) {
    emit("text", text);
  }

  // ---- a scaffold's form

  /** @param {any} item @param {HTMLElement} button */
  function open(item, button) {
    scaffold = item;
    opener = button;
    $("#scaffold-name").textContent = nameOf(item);
    $("#scaffold-what").textContent = t(`scaffold.${item.key}.what`);
    $(".scaffold-fields").replaceChildren(...item.fields.map((/** @type {any} */ one) => field(item.key, one)));
    box.hidden = false;
    const first = /** @type {HTMLInputElement} */ ($(".scaffold-fields :is(input, textarea)"));
    first.focus();
    first.select();
  }

  /** @param {string} key @param {{name: string, value: string, kind?: string, longest?: number}} field */
  function field(key, { name, value, kind: shape, longest = 300 }) {
    const row = make("label", "", t(`scaffold.${key}.${name === "name" ? "field_name" : name}`));
    const isLong = shape === "pairs";
    const input = row.appendChild(make(isLong ? "textarea" : "input"));
    Object.assign(input, { name, value, required: true, maxLength: isLong ? 4000 : longest });
    if (input instanceof HTMLTextAreaElement) {
      input.rows = value.split("\n").length + 1;
      // Enter makes a new line there, so Ctrl+Enter submits
      input.addEventListener("keydown", (event) => event.key === "Enter" && !isRunKey(event) && event.stopPropagation());
    }
    return row;
  }

  function close({ focus = false } = {}) {
    if (box.hidden) return;
    box.hidden = true;
    scaffold = null;
    if (focus) opener?.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const { text, controls, done } = fillScaffold(scaffold, Object.fromEntries(new FormData(form)));
    close();
    const back = controlsBack();
    const wanted = { ...back, ...controls };
    const before = Object.fromEntries(Object.keys(wanted).map((name) => [name, state.controls[name]]));
    useControls(wanted);
    sessions.current.scaffold = { text, before: { ...before, ...back }, values: controls };
    emit("text", text);
    emit("aside", { message: done, controls: before });
  });

  // What a scaffold set for its text ends with that text.
  on("written", () => {
    const { scaffold: fit, written } = sessions.current;
    if (!fit || 2 * commonStart(fit.text, written.text) >= fit.text.length) return;
    const back = controlsBack();
    sessions.current.scaffold = null;
    if (Object.keys(back).length) useControls(back);
  });

  // The previous values of the controls that the last scaffold set and that are unchanged since.
  function controlsBack() {
    if (!sessions.current.scaffold) return {};
    const { before, values } = sessions.current.scaffold;
    return Object.fromEntries(
      Object.entries(before).filter(([name]) => String(state.controls[name]) === String(values[name])),
    );
  }

  // The form handles Ctrl+Enter and Escape, not the editor.
  form.addEventListener("keydown", (event) => {
    if (isComposing(event)) return event.stopPropagation();
    if (event.key === "Escape") close({ focus: true });
    else if (isRunKey(event)) {
      event.preventDefault();
      form.requestSubmit();
    } else return;
    event.stopPropagation();
  });
  $('.scaffold [data-action="close"]').addEventListener("click", () => close({ focus: true }));
  document.addEventListener("click", ({ target }) => {
    if (target instanceof Node && !element.contains(target)) close();
  });
  on("record", ({ event }) => {
    if (event === "begin") submit.disabled = true;
    if (event === "end") submit.disabled = false;
  });
}
