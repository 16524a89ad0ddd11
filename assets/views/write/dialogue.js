// In a scaffold's dialogue, writes the label of the speaker who has the next turn at the end of the text.

import { sessions } from "../../core/sessions.js";
import { afterModel, beforeModel } from "../../core/turns.js";

/**
 * Returns whether a label was written. It is a step of its own, which undo reverts.
 * @param {import("./writing.js").Writing} writing @param {"model" | "visitor"} next who has the next turn
 */
export function writeLabel(writing, next) {
  const { text } = writing.written;
  const turns = sessions.current.scaffold?.turns;
  const label = turns ? (next === "model" ? beforeModel : afterModel)(text, turns) : "";
  if (label) writing.insertAt(text.length, label);
  return label !== "";
}
