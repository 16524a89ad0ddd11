// The status line's messages on the text's length, the request, and its end.

import { rateText } from "../../core/format.js";
import { messageText, t } from "../../core/i18n.js";

/** @param {{phase: string, total: number, tokens: number, rate?: number, ahead?: number, completions?: number, candidates?: number}} run @param {Status | null} status */
export function describeRunning(run, status) {
  switch (run.phase) {
    case "stopping":
      return t("run.stopping");
    case "writing": {
      const tokens = t("count.tokens", { count: run.total });
      const several = (run.completions ?? 1) > 1;
      const said = t(several ? "run.writing_several" : "run.writing", { tokens, count: run.completions ?? 1 });
      return said + aSecond(run.rate);
    }
    case "drafting":
      return t("run.drafting", {
        completions: t("count.completions", { count: run.candidates ?? 1 }),
        tokens: t("count.tokens", { count: run.total }),
      });
    case "reading":
      return t("run.reading");
    case "reconnecting":
      return t("run.reconnecting");
    default:
      if (status && status.state !== "ready") return t("run.waiting_for_model", { detail: messageText(status.texts.detail) });
      if (status?.lease === "waking" && !run.ahead) return t("run.waking");
      return run.ahead ? t("run.ahead", { count: run.ahead }) : t("run.starting");
  }
}

/**
 * `isRest`: the length was what remained of an earlier request's length; `isCut`: the text was cut after its last whole
 * sentence.
 * @param {{message: string, code?: string, total: number, rate?: number, per_pass?: number, completions?: number, isRest?: boolean, isCut?: boolean}} end
 */
export function describeEnd({ message, code, total, rate, per_pass: perPass, completions = 1, isRest = false, isCut = false }) {
  if (isCut) message = t("editor.whole_sentence");
  // drop the full stop of this sentence, as the speed follows
  if (completions === 1 && code === "end.length" && !isCut) {
    return (isRest ? t("editor.wrote_rest", { count: total }) : message).replace(/\.$/, "") + aSecond(rate) + aPass(perPass);
  }
  if (completions === 1 && isCut) return message.replace(/\.$/, "") + aSecond(rate); // how many are left is not known
  const tokens = t("count.tokens", { count: total });
  const said = completions > 1 ? t("run.tokens_in", { tokens, count: completions }) : tokens;
  return `${message} ${said}${aSecond(rate)}${completions > 1 ? "" : aPass(perPass)}`;
}

/** Tokens per forward pass of the model, if drafts made them more than one. @param {number | undefined} perPass */
const aPass = (perPass) => (perPass && perPass >= 1.05 ? t("text.comma") + t("run.per_pass", { tokens: perPass.toFixed(1) }) : "");

/** @type {Record<string, string>} */
const DRAFTERS = { lookup: "run.drafts_of_lookup", model: "run.drafts_of_model" };

/** Who drafted how many tokens of a text, and how many were right. @param {{drafts?: [string, number, number][]}} end */
export const describeDrafts = ({ drafts = [] }) =>
  drafts.map(([drafter, drafted, accepted]) => t(DRAFTERS[drafter], { drafted, accepted })).join(" ");

/** @param {number | null | undefined} rate */
const aSecond = (rate) => (rate ? t("text.comma") + t("run.rate", { rate: rateText(rate) }) : "");

/**
 * The text's number of tokens and the tokens left; `unread` of them are cut off at its beginning.
 * @param {number} tokens @param {number | undefined} context @param {{isRunning: boolean, unread: number}} now
 */
export function describeCount(tokens, context, { isRunning, unread }) {
  if (unread && !isRunning) return t("editor.unread", { tokens: t("count.tokens", { count: tokens }), count: unread });
  if (!context) return t("count.tokens", { count: tokens });
  if (isRunning || unread) return t("editor.count", { tokens, context });
  const remaining = context - tokens;
  return remaining > 0
    ? t("editor.count_remaining", { tokens, context, remaining })
    : t("editor.count_full", { tokens, context });
}
