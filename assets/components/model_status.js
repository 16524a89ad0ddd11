// Polls the model's status from the server, often while it is not ready, and emits the event "status".

import { emit, on } from "../core/events.js";
import { rounded } from "../core/format.js";
import { closeBeside, finder, setText } from "./dom.js";
import { makeHelp } from "./help/help.js";
import { switchOffLacking } from "./lacking.js";
import { offerLanguages } from "./language.js";
import { markTab } from "./page.js";
import { offerThemes } from "./theme.js";
import { messageText, t } from "../core/i18n.js";

const FAST_MS = 500;
const CALM_MS = 5000;
const HIDDEN_MS = 30000;
/** @type {Record<string, string>} */
const LEASES = { asleep: "lease.asleep", waking: "lease.waking", awake: "lease.awake" };

/** @param {Component} component */
export function mount({ element, server }) {
  const $ = finder(element);
  const bar = $(".model-progress");
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let said = "";
  /** @type {Status | null} */
  let latest = null;
  /** @type {{state: string, seconds_left: number | null}} */
  let lease = { state: "asleep", seconds_left: null }; // of a GPU that is lent for a request

  async function ask() {
    clearTimeout(timer);
    const status = await server.status("").catch(() => null);
    const isStatus = typeof status?.state === "string";
    if (isStatus) {
      show(status);
      emit("status", status);
    } else {
      showState("offline", t("status.offline"), null);
    }
    const pause = isStatus && status.state === "ready" ? CALM_MS : FAST_MS;
    timer = setTimeout(ask, document.hidden ? HIDDEN_MS : pause);
  }

  /** @param {Status} status */
  function show(status) {
    const { model, state } = status;
    latest = status;
    status.lease = lease.state;
    if (state === "ready" && model) {
      const name = model.is_sample ? [t("top.sample_model"), ...model.adapters].join(" + ") : model.name;
      const how = model.served ? t("top.reduced") : model.precision;
      const text = [name, how, model.device].join(" · ");
      const gpu = status.is_lent ? ` · ${t(LEASES[lease.state], { seconds: lease.seconds_left ?? 0 })}` : "";
      showState(state, text, null, gpu);
    } else {
      showState(state, messageText(status.texts.detail), status.progress);
    }
    document.body.classList.toggle("is-sample", Boolean(model?.is_sample));
    $(".filter-note").hidden = !status.filter;
    $(".sample-note").hidden = !model?.is_sample;
    $(".model-why").textContent = messageText((model && status.texts.why) || status.texts.detail);
    $(".sizes").textContent = model
      ? t(model.served ? "top.served" : "top.sizes", {
          parameters: rounded(model.parameters / 1e6, model.parameters < 1e8 ? 1 : 0),
          size: rounded(model.weight_bytes / 2 ** 20, 0),
          device: model.device_name,
          context: status.context_length ?? 0,
          running: status.streams_running,
          streams: model.max_num_seqs,
          waiting: status.streams_waiting,
        })
      : "";
  }

  /** @param {string} state @param {string} text @param {number | null | undefined} progress @param {string} gpu */
  function showState(state, text, progress, gpu = "") {
    $(".top").dataset.state = state;
    setText($(".model-line"), text + gpu);
    const announced = state === "ready" ? t("top.ready", { model: text }) : text;
    if (said !== announced) $('[role="status"]').textContent = announced;
    said = announced;
    bar.hidden = ["ready", "failed", "offline"].includes(state);
    const isMeasured = typeof progress === "number";
    const percent = Math.round(100 * (progress ?? 0));
    bar.classList.toggle("is-unmeasured", !isMeasured);
    $(".model-progress i").style.width = `${percent}%`;
    if (isMeasured) bar.setAttribute("aria-valuenow", String(percent));
    else bar.removeAttribute("aria-valuenow");
  }

  on("refresh-status", ask);
  on("record", ({ event }) => event === "reconnecting" && ask()); // the engine has ended
  on("record", (record) => {
    if (record.event === "lease") lease = record;
    else if (record.event === "end") lease = { state: "asleep", seconds_left: null };
    else return;
    if (latest?.is_lent) show(latest);
  });
  document.addEventListener("visibilitychange", () => !document.hidden && ask());
  closeBeside($("details", HTMLDetailsElement));
  offerLanguages($(".languages", HTMLSelectElement));
  offerThemes($(".themes", HTMLSelectElement));
  makeHelp(element);
  switchOffLacking();
  ask();
  markTab();
}
