// How far a running request is, for the status line.

/** @typedef {{phase: string, tokens: number, total: number, rate?: number, ahead?: number, promptTokens?: number,
 *             completions?: number, candidates?: number}} Progress */

/** @returns {Progress} */
export const newProgress = () => ({ phase: "sending", tokens: 0, total: 0 });

/** Update the progress from a record. @param {Progress} progress @param {any} record */
export function advance(progress, record) {
  const isStopping = progress.phase === "stopping";
  switch (record.event) {
    case "waiting":
      Object.assign(progress, { phase: "waiting", ahead: record.ahead });
      break;
    case "reconnecting":
      if (!isStopping) progress.phase = "reconnecting";
      break;
    case "started":
      progress.phase = "reading";
      progress.promptTokens = record.prompt_tokens;
      progress.completions = record.n;
      progress.candidates = record.candidates;
      break;
    case "drafting":
      if (!isStopping) progress.phase = "drafting";
      progress.total = record.tokens;
      progress.rate = record.rate;
      break;
    case "text":
      if (!isStopping) progress.phase = "writing";
      if (record.index === 0) progress.tokens = record.tokens;
      progress.total = record.total;
      progress.rate = record.rate;
      break;
  }
}
