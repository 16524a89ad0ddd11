// Fills in the figures from the event "status". While the view is shown, it requests the status every two
// seconds and computes tokens a second between two answers.

import { find, setText } from "../../components/dom.js";
import { shownView } from "../../components/page.js";
import { emit, on } from "../../core/events.js";
import { bytesText, number, rateText } from "../../core/format.js";
import { messageText, t } from "../../core/i18n.js";

const REFRESH_MS = 2000;
/** @type {Record<string, string>} */
const FILTERS = { hold: "about.filter_holds", mark: "about.filter_marks", end: "about.filter_ends" };

/** @param {Component} component */
export function mount({ element }) {
  let before = { at: 0, tokens: 0 }; // the answer before this one

  /** @param {Record<string, string>} texts by the name of their place */
  function fill(texts) {
    for (const [name, text] of Object.entries(texts)) setText(find(element, `[data-of="${name}"]`), text);
  }

  /** @param {number} tokens */
  function rate(tokens) {
    const now = performance.now();
    const elapsed = before.at && (now - before.at) / 1000;
    const written = tokens - before.tokens;
    before = { at: now, tokens };
    return !elapsed || elapsed > 30 ? null : Math.max(0, written / elapsed); // 30: the view was not shown
  }

  /** @param {Status} status */
  function show(status) {
    const { model, state } = status;
    find(element, ".about-why").textContent = messageText((model && state === "ready" && status.texts.why) || status.texts.detail);
    const filter = find(element, ".about-filter");
    filter.hidden = !status.filter;
    if (status.filter) {
      const isSent = status.filter.kind === "endpoint";
      setText(filter, t(FILTERS[status.filter.action]) + (isSent ? ` ${t("about.filter_sends")}` : ""));
    }
    const perSecond = rate(status.tokens_written);
    fill({
      rate: perSecond === null ? "…" : t("about.tokens_a_second", { rate: perSecond ? rateText(perSecond) : "0" }),
      waiting: t("count.requests", { count: status.streams_waiting }),
    });
    if (!model) return;
    const held = status.engine_memory_bytes;
    const process = held ? t("about.process", { held: bytesText(held) }) : "";
    const elsewhere = model.served && t("about.elsewhere", { server: model.served.server });
    fill({
      name: model.is_sample ? t("about.not_gptj") : model.name,
      revision: model.revision ?? (model.is_sample ? t("about.own_revision") : t("about.no_revision")),
      adapters: model.adapters.join(", ") || t("about.no_adapters"),
      licence: model.is_sample ? t("about.cc0_1_0_dedicated") : model.licence ?? t("about.cards_licence"),
      parameters: elsewhere ?? number(model.parameters),
      precision: elsewhere ?? model.precision,
      device: model.device_name === model.device ? model.device : `${model.device_name} (${model.device})`,
      memory: elsewhere ?? t("about.weights", { size: bytesText(model.weight_bytes) }) + process,
      context: t("about.context_length", { count: status.context_length }),
      streams: t("about.streams", { running: status.streams_running, streams: model.max_num_seqs }),
      reserved: t("about.reserved", { reserved: number(status.tokens_reserved), tokens: number(model.max_tokens) }),
    });
  }

  const isShown = () => shownView() === "about" && !document.hidden;
  on("status", (status) => isShown() && show(status));
  on("view", (view) => view === "about" && emit("refresh-status"));
  setInterval(() => isShown() && emit("refresh-status"), REFRESH_MS);

  // Gradio's own page of its API has no address that opens it.
  find(element, ".about-gradio").addEventListener("click", () => {
    document.querySelector("footer .show-api")?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  });
}
