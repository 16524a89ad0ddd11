// What the line under the editor says of the text's length and of the request, and why a request ended.

import { number, plural, rateText } from "../../core/format.js";

/** @param {{phase: string, total: number, tokens: number, rate?: number, ahead?: number, completions?: number, candidates?: number}} run @param {Status | null} status */
export function describeRunning(run, status) {
  switch (run.phase) {
    case "stopping":
      return "Stopping…";
    case "writing": {
      const several = (run.completions ?? 1) > 1 ? ` of ${run.completions} completions` : "";
      return `Writing: ${plural(run.total, "token")}${several}${aSecond(run.rate)}`;
    }
    case "drafting":
      return `Drafting ${run.candidates} completions: ${plural(run.total, "token")}`;
    case "reading":
      return "Reading the text…";
    default:
      if (status && status.state !== "ready") return `Waiting for the model. ${status.detail}`;
      return run.ahead ? `In line, ${run.ahead} ahead of you` : "Starting…";
  }
}

/** @param {{message: string, total: number, rate?: number, completions?: number}} end */
export function describeEnd({ message, total, rate, completions = 1 }) {
  const several = completions > 1 ? ` in ${completions} completions` : "";
  const isTold = !several && message.includes(number(total));
  const tokens = isTold ? "" : ` ${plural(total, "token")}${several}`;
  return message.replace(tokens ? /$/ : /\.$/, "") + tokens + aSecond(rate);
}

/** @param {number | null | undefined} rate */
const aSecond = (rate) => (rate ? `, ${rateText(rate)} a second` : "");

/**
 * How many tokens the text has, and how much room is left. `unread` of them are cut off at its beginning.
 * @param {number} tokens @param {number | undefined} context @param {{isRunning: boolean, unread: number}} now
 */
export function describeCount(tokens, context, { isRunning, unread }) {
  if (unread && !isRunning) return `${plural(tokens, "token")}: the first ${number(unread)}, in grey, will not be read`;
  if (!context) return plural(tokens, "token");
  const count = `${number(tokens)} of ${number(context)} tokens`;
  if (isRunning || unread) return count;
  const room = context - tokens;
  return count + (room > 0 ? `, room for ${number(room)}` : ": no room left to write");
}
