// Comma-separated values (RFC 4180).

/**
 * A field as it is written, whatever separates the fields. A text that a spreadsheet would read as a formula gets a
 * leading apostrophe, which marks it as text.
 * @param {any} value
 */
export function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "string") return String(value);
  const safe = /^\s*[=+\-@|%]|^[\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {any[][]} rows */
export const toCSV = (rows) => rows.map((row) => `${row.map(csvField).join(",")}\r\n`).join("");

/** A table of tokens with their alternatives side by side. @param {Token[]} tokens */
export function tokensAsCSV(tokens) {
  const most = Math.max(0, ...tokens.map(({ alternatives }) => alternatives.length));
  /** @type {(keyof Token)[]} */
  const columns = ["token_id", "text", "logprob", "sampled_logprob", "rank", "filtered_away"];
  /** @type {(keyof Alternative)[]} */
  const ofOther = ["token_id", "text", "logprob", "sampled_logprob", "removed_by"];
  const places = Array.from({ length: most }, (_, i) => i);
  const head = ["index", ...columns, ...places.flatMap((i) => ofOther.map((name) => `alternative_${i + 1}_${name}`))];
  const rows = tokens.map((token, index) => [
    index,
    ...columns.map((name) => token[name]),
    ...places.flatMap((i) => ofOther.map((name) => token.alternatives[i]?.[name])),
  ]);
  return toCSV([head, ...rows]);
}
