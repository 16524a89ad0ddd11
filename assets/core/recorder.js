// Adds the editor's requests to the open session's tree as nodes.

import { emit, on } from "./events.js";
import { t } from "./i18n.js";
import { sessions } from "./sessions.js";
import { changedControls, state } from "./state.js";

/** The data of a request that its node keeps; `others` are controls that differ from the panel's. @param {Controls} others */
function factsOfRequest(others) {
  const model = state.status?.model;
  const controls = changedControls({ ...state.controls, ...others });
  return { controls, model: model?.name, revision: model?.revision ?? undefined, precision: model?.precision };
}

let refusal = /** @type {{reason: string, message: string} | null} */ (null);

/** @type {Record<string, (record: any) => void>} */
const handlers = {
  begin({ prompt, at, kind, run, before, controls = {}, rest = [] }) {
    const { tree } = sessions.current;
    refusal = null;
    tree.commit(before);
    const { logprobs: _, ...others } = controls; // does not change the text
    const facts = factsOfRequest(others);
    if (kind === "retry") delete facts.controls.seed;
    tree.begin({ prompt, at, kind, run, facts, rest });
  },
  started: ({ n }) => sessions.current.tree.expect(n),
  text: ({ index, text }) => sessions.current.tree.grow(index, text),
  cut: ({ index, length }) => sessions.current.tree.shorten(index, length),
  finished({ index, seed, reason, message, completion_tokens: tokens, mean_logprob }) {
    sessions.current.tree.finish(index, { seed, reason, message, tokens, mean_logprob: mean_logprob ?? undefined });
  },
  refused({ message }) {
    refusal = { reason: "error", message };
  },
  end({ message }) {
    const { tree, written } = sessions.current;
    tree.end(refusal ?? { reason: "error", message: message ?? t("branches.cut_off") });
    tree.follow(written.text);
  },
};

on("record", (record) => {
  if (!Object.hasOwn(handlers, record.event)) return;
  handlers[record.event](record);
  sessions.scheduleSave();
  emit("tree");
});
