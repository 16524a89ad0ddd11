// The part of a text that is sent where its beginning may be left out: the server refuses longer texts, and the model
// reads only as many of the last tokens as its context holds. Pure: no DOM.

import { tail } from "./characters.js";

/** The longest text that the server takes, MAX_PROMPT_CHARACTERS in gptj_demo/client/prompt.py. */
export const MOST_TAKEN = 200_000;
/**
 * What is sent of a longer one. With the note of the session it is below the limit, and it has more tokens than a
 * context, so the model reads the same tokens as of the whole text.
 */
export const MOST_SENT = 190_000;

/** The codes of refusals of a text that is too long for the model or for the server, but can be sent without its beginning. */
export const TOO_LONG = ["refused.too_long", "refused.too_many_characters", "score.too_long"];

/** @param {string} text @param {any} truncate the value of that control */
export const sentOf = (text, truncate) => (truncate === "left" && text.length > MOST_TAKEN ? tail(text, MOST_SENT) : text);

/**
 * A message without the number of tokens that were left out: where only the end of a text was sent, the server does not
 * know how many tokens come before it.
 * @param {import("./i18n.js").ServerMessage} message @returns {import("./i18n.js").ServerMessage}
 */
export function withoutDropped(message) {
  if (message.code !== "text.joined") return message;
  const { first, second } = message.values;
  if (second.code === "end.dropped") return first;
  return { code: message.code, values: { first: withoutDropped(first), second } };
}
