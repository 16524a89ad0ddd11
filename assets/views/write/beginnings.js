// Beginnings to try: examples that suit the model that answers, and scaffolds, which ask for a few words.
// Both put a text into the editor as one step; a scaffold also sets the controls that fit it.

import { make } from "../../components/dom.js";
import { emit, on } from "../../core/events.js";
import { fillScaffold } from "../../core/scaffolds.js";
import { state, useControls } from "../../core/state.js";

export function mount({ element, props }) {
  const $ = (selector) => element.querySelector(selector);
  const list = $(".examples ul");
  const box = $(".scaffold");
  const form = $(".scaffold form");
  let kind = "examples";
  let set = "sample"; // until the model is known the stories are shown, which any model can go on with
  let shown = null;
  let scaffold = null; // the one whose form is open
  let opener = null; // the button that opened it
  let fitted = null; // {before, values}: what the last scaffold did to the controls

  // ---- the row

  function show() {
    const wanted = kind === "examples" ? set : kind;
    if (wanted === shown) return;
    shown = wanted;
    const items = kind === "examples" ? props.examples[set] : props.scaffolds;
    list.replaceChildren(
      ...items.map((item) => {
        const row = make("li");
        const button = row.appendChild(make("button", "", item.name));
        button.type = "button";
        if (kind === "scaffolds") button.setAttribute("aria-haspopup", "dialog");
        button.addEventListener("click", () => (kind === "examples" ? useExample(item) : open(item, button)));
        return row;
      }),
    );
    list.scrollLeft = 0;
  }

  for (const button of element.querySelectorAll("[data-kind]")) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      for (const other of element.querySelectorAll("[data-kind]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      close();
      show();
    });
  }

  on("status", ({ model }) => {
    set = model && !model.is_sample ? "gptj" : "sample";
    show();
  });
  show();

  function useExample({ text }) {
    const back = controlsBack();
    if (Object.keys(back).length) useControls(back);
    fitted = null;
    emit("text", text);
  }

  // ---- a scaffold's form

  function open(item, button) {
    scaffold = item;
    opener = button;
    $("#scaffold-name").textContent = item.name;
    $("#scaffold-what").textContent = item.what;
    $(".scaffold-fields").replaceChildren(...item.fields.map(field));
    box.hidden = false;
    const first = form.querySelector("input, textarea");
    first.focus();
    first.select();
  }

  function field({ name, label, value, kind: shape, longest = 300 }) {
    const row = make("label", "", label);
    const input = row.appendChild(make(shape === "pairs" ? "textarea" : "input"));
    input.name = name;
    input.value = value;
    input.required = true;
    input.maxLength = shape === "pairs" ? 4000 : longest;
    if (shape === "pairs") {
      input.rows = value.split("\n").length + 1;
      // Enter makes a new line there, so that Ctrl+Enter is what ends it
      input.addEventListener("keydown", (event) => event.key === "Enter" && event.stopPropagation());
    }
    return row;
  }

  function close({ focus = false } = {}) {
    if (box.hidden) return;
    box.hidden = true;
    scaffold = null;
    if (focus) opener.focus();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const { text, controls, done } = fillScaffold(scaffold, Object.fromEntries(new FormData(form)));
    close();
    const wanted = { ...controlsBack(), ...controls };
    const before = Object.fromEntries(Object.keys(wanted).map((name) => [name, state.controls[name]]));
    fitted = { before: { ...before, ...controlsBack() }, values: controls };
    useControls(wanted);
    emit("text", text);
    emit("aside", { message: `${done}.`, controls: before });
  });

  // The controls that the last scaffold set and nobody changed since, as they were before it.
  function controlsBack() {
    if (!fitted) return {};
    const still = ([name]) => String(state.controls[name]) === String(fitted.values[name]);
    return Object.fromEntries(Object.entries(fitted.before).filter(still));
  }

  // Ctrl+Enter and Escape in the form are the form's, not the editor's.
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close({ focus: true });
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    } else {
      return;
    }
    event.stopPropagation();
  });
  $('.scaffold [data-action="close"]').addEventListener("click", () => close({ focus: true }));
  document.addEventListener("click", ({ target }) => {
    if (!box.hidden && !element.contains(target)) close();
  });
  on("record", ({ event }) => {
    if (event === "begin") $('.scaffold [type="submit"]').disabled = true;
    if (event === "end") $('.scaffold [type="submit"]').disabled = false;
  });
}
