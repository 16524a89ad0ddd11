// Asks the server how the model is, often while it is not ready, and tells the other components with the
// news "status".

import { emit, on } from "../core/events.js";
import { rounded } from "../core/format.js";
import { markTab } from "./page.js";

const FAST_MS = 500;
const CALM_MS = 5000;
const HIDDEN_MS = 30000;

export function mount({ element, server }) {
  const $ = (selector) => element.querySelector(selector);
  const line = $(".model-line");
  const bar = $(".model-progress");
  let timer = null;
  let said = "";

  async function ask() {
    clearTimeout(timer);
    let status;
    try {
      status = await server.status("");
    } catch {
      status = null;
    }
    if (status && typeof status.state === "string") {
      show(status);
      emit("status", status);
    } else {
      showState("offline", "No connection to the playground", null);
    }
    const pause = status?.state === "ready" ? CALM_MS : FAST_MS;
    timer = setTimeout(ask, document.hidden ? HIDDEN_MS : pause);
  }

  function show(status) {
    const { model, state } = status;
    const name = model && (model.is_sample ? "Sample model, a toy storyteller" : model.name);
    if (state === "ready") {
      showState(state, [name, model.precision, model.device].join(" · "), null);
    } else {
      showState(state, status.detail, status.progress);
    }
    document.body.classList.toggle("is-sample", Boolean(model?.is_sample));
    $(".sample-note").hidden = !model?.is_sample;
    $(".model-why").textContent = model ? model.why : status.detail;
    $(".sizes").textContent = model
      ? `${rounded(model.parameters / 1e6, model.parameters < 1e8 ? 1 : 0)} million ` +
        `parameters in ${rounded(model.weight_bytes / 2 ** 20, 0)} MB on ` +
        `${model.device_name}; reads ${status.context_length} tokens; ${status.streams_running} of ` +
        `${model.max_streams} streams in use, ${status.streams_waiting} waiting.`
      : "";
  }

  function showState(state, text, progress) {
    element.querySelector(".top").dataset.state = state;
    if (line.textContent !== text) line.textContent = text;
    const announced = state === "ready" ? `The model is ready: ${text}` : state;
    if (said !== announced) $('[role="status"]').textContent = announced;
    said = announced;
    bar.hidden = state === "ready" || state === "failed" || state === "offline";
    bar.classList.toggle("is-unmeasured", progress === null || progress === undefined);
    const percent = Math.round(100 * (progress ?? 0));
    bar.firstElementChild.style.width = `${percent}%`;
    if (progress === null || progress === undefined) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(percent));
  }

  on("refresh-status", ask);
  document.addEventListener("visibilitychange", () => !document.hidden && ask());
  document.addEventListener("click", (event) => {
    const details = $("details");
    if (details.open && !details.contains(event.target)) details.open = false;
  });
  ask();
  markTab();
}
