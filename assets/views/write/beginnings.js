// Beginnings to try: examples that suit the loaded model, and scaffolds, which ask for a few words. Both put a
// text into the editor as one step; a scaffold also sets suitable controls.

import { finder, isComposing, isRunKey, make, makeButton } from "../../components/dom.js";
import { commonStart } from "../../core/characters.js";
import { emit, on } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { LONGEST_NAME, deleteScaffold, fillOwn, loadScaffolds, placeholdersOf, saveScaffold } from "../../core/own_scaffolds.js";
import { fillScaffold } from "../../core/scaffolds.js";
import { sessions } from "../../core/sessions.js";
import { state, useControls } from "../../core/state.js";

/** @param {{key: string, fields?: any[], own?: string}} item an example, a scaffold, or one of the visitor's `own` name */
const nameOf = ({ key, fields, own }) => own ?? t(fields ? `scaffold.${key}.name` : `example.${key}`);

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
    const items = kind === "examples" ? props.examples[set] : [...props.scaffolds, ...ownScaffolds(), { own: t("beginnings.save_own"), saves: true, fields: [] }];
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

  // The visitor's own scaffolds: each placeholder of the text is a field.
  const ownScaffolds = () =>
    loadScaffolds().map(({ name, text }) => ({ own: name, text, fields: placeholdersOf(text).map((one) => ({ name: one, value: "" })) }));

  /** Redraw the row. */
  function renew() {
    shown = "";
    show();
  }

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
    const what = item.saves ? t("beginnings.save_own_what") : item.own ? t("beginnings.own_what") : t(`scaffold.${item.key}.what`);
    $("#scaffold-what").textContent = what;
    const fields = item.saves ? [{ name: "name", value: "", longest: LONGEST_NAME }] : item.fields;
    $(".scaffold-fields").replaceChildren(...fields.map((/** @type {any} */ one) => field(item, one)));
    submit.textContent = t(item.saves ? "presets.save" : "beginnings.write_it");
    $('.scaffold [data-action="delete"]').hidden = !item.own || item.saves;
    $('.scaffold [data-action="rows"]').hidden = !item.own || item.saves || !item.fields.length;
    $(".scaffold .of-sample").hidden = Boolean(item.own || item.saves); // only built-in scaffolds have this note
    $(".scaffold-foot span").hidden = Boolean(item.saves);
    box.hidden = false;
    const first = box.querySelector(".scaffold-fields :is(input, textarea)");
    if (first instanceof HTMLInputElement || first instanceof HTMLTextAreaElement) {
      first.focus();
      first.select();
    } else submit.focus();
  }

  /** @param {any} item @param {{name: string, value: string, kind?: string, longest?: number}} field */
  function field({ key, own, saves }, { name, value, kind: shape, longest = 300 }) {
    const label = saves ? t("beginnings.own_name") : own ? name : t(`scaffold.${key}.${name === "name" ? "field_name" : name}`);
    const row = make("label", "", label);
    const isLong = shape === "pairs";
    const input = row.appendChild(make(isLong ? "textarea" : "input"));
    Object.assign(input, { name, value, required: true, maxLength: isLong ? 4000 : longest });
    if (input instanceof HTMLTextAreaElement) {
      input.rows = value.split("\n").length + 1;
      // Enter makes a new line there, so Ctrl+Enter submits
      input.addEventListener("keydown", (event) => event.key === "Enter" && !isRunKey(event) && event.stopPropagation());
    } else input.dir = "auto";
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
    if (submit.disabled) return emit("notice", t("branches.wait")); // by Ctrl+Enter
    if (scaffold.own) return submitOwn();
    const { text, controls, turns, done } = fillScaffold(scaffold, Object.fromEntries(new FormData(form)));
    close();
    const back = controlsBack();
    const wanted = { ...back, ...controls };
    const before = Object.fromEntries(Object.keys(wanted).map((name) => [name, state.controls[name]]));
    useControls(wanted);
    sessions.current.scaffold = { text, before: { ...before, ...back }, values: controls, turns };
    emit("text", text);
    emit("aside", { message: done, controls: before });
  });

  // An own scaffold sets no controls; those that another one has set are put back when its text is replaced.
  function submitOwn() {
    const { saves, text } = scaffold;
    const values = Object.fromEntries(new FormData(form));
    close();
    if (!saves) return emit("text", fillOwn(text, values));
    const name = String(values.name).trim();
    if (!name) return;
    change(() => saveScaffold(name, sessions.current.written.text), t("beginnings.own_saved", { name }));
  }

  /**
   * Change the own scaffolds, and say what was done, or why it cannot be done.
   * @param {() => void} act @param {string} message @param {() => void} [putBack] is called by the remark's Undo
   */
  function change(act, message, putBack) {
    try {
      act();
      emit("aside", { message, controls: null, putBack });
    } catch (error) {
      emit("notice", /** @type {Error} */ (error).message);
    }
    renew();
  }

  $('.scaffold [data-action="rows"]').addEventListener("click", () => {
    const { text } = scaffold;
    close();
    emit("batch", text);
  });
  $('.scaffold [data-action="delete"]').addEventListener("click", () => {
    const { own: name, text } = scaffold;
    close();
    const putBack = () => change(() => saveScaffold(name, text), t("beginnings.own_is_back", { name }));
    change(() => deleteScaffold(name), t("presets.deleted", { name }), putBack);
  });

  // Put back the controls that a scaffold set once less than half of its text is left.
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
