// Fills in what is running, from the news "status". While the view is shown the status is asked for every
// two seconds; tokens a second are what was written between two answers.

import { shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { number, plural, rounded } from "../../core/format.js";

const REFRESH_MS = 2000;
const MEGABYTE = 2 ** 20;

export function mount({ element }) {
  const article = element.querySelector(".about");
  let before = null; // the answer before this one: {at, tokens}

  function set(name, text) {
    const place = article.querySelector(`[data-of="${name}"]`);
    if (place.textContent !== text) place.textContent = text;
  }

  const bytes = (n) =>
    n >= 1000 * MEGABYTE
      ? `${(n / 1024 / MEGABYTE).toLocaleString("en", { maximumFractionDigits: 1 })} GB`
      : `${number(Math.round(n / MEGABYTE))} MB`;

  function rate(tokens) {
    const now = performance.now();
    const elapsed = before ? (now - before.at) / 1000 : 0;
    const written = before ? tokens - before.tokens : 0;
    before = { at: now, tokens };
    if (!elapsed || elapsed > 30) return null; // the view was not shown
    return Math.max(0, written / elapsed);
  }

  function show(status) {
    const { model, state } = status;
    article.querySelector(".about-why").textContent = model && state === "ready" ? model.why : status.detail;
    const perSecond = rate(status.tokens_written);
    set("rate", perSecond === null ? "…" : `${perSecond.toFixed(perSecond && perSecond < 10 ? 1 : 0)} tokens a second`);
    set("waiting", plural(status.streams_waiting, "request"));
    if (!model) return;
    set("name", model.is_sample ? "The sample model, not GPT-J" : model.name);
    set("revision", model.revision ?? (model.is_sample ? "the one that comes with the playground" : "not named"));
    set("parameters", number(model.parameters));
    set("precision", model.precision);
    set("device", model.device_name === model.device ? model.device : `${model.device_name} (${model.device})`);
    const held = status.engine_memory_bytes;
    const process = held ? `; its process holds ${bytes(held)} of the machine's` : "";
    set("memory", `${bytes(model.weight_bytes)} of weights${process}`);
    set("context", `${plural(status.context_length, "token")}, what you and it write together`);
    set("streams", `${status.streams_running} of ${model.max_streams}`);
  }

  const isShown = () => shownView() === "about" && !document.hidden;
  on("status", (status) => isShown() && show(status));
  on("view", (view) => view === "about" && emit("refresh-status"));
  setInterval(() => isShown() && emit("refresh-status"), REFRESH_MS);

  // Gradio's own page of its API has no address that opens it.
  article.querySelector(".about-gradio").addEventListener("click", () => document.querySelector("footer .show-api")?.click());
}
