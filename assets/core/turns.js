// Whose turn it is in a dialogue, by the labels of its two speakers. Pure: no DOM, no network.

/** @typedef {[string, string]} Turns the visitor's label and the model's, each with the line break before it: "\nANN:" */

/** Who has the last label of a text, 0 for the visitor and 1 for the model, and the words after it; null without a label. @param {string} text @param {Turns} turns */
function lastTurn(text, turns) {
  const places = turns.map((label) => `\n${text}`.lastIndexOf(label));
  const speaker = places[0] > places[1] ? 0 : 1;
  if (places[speaker] < 0) return null;
  return { speaker, words: `\n${text}`.slice(places[speaker] + turns[speaker].length) };
}

/** The label to write after the model's words: the visitor's, or "" if the last turn is not the model's. @param {string} text @param {Turns} turns */
export const afterModel = (text, turns) => (lastTurn(text, turns)?.speaker === 1 ? `${turns[0]} ` : "");

/** The label to write before the model generates: the model's, or "" if the visitor has not written a turn. @param {string} text @param {Turns} turns */
export function beforeModel(text, turns) {
  const last = lastTurn(text, turns);
  return last?.speaker === 0 && last.words.trim() ? turns[1] : "";
}

/** @param {any} given @returns {Turns | undefined} */
export const readTurns = (given) =>
  Array.isArray(given) && given.length === 2 && given.every((one) => typeof one === "string" && one.trim() && one.length <= 200) ? [given[0], given[1]] : undefined;
