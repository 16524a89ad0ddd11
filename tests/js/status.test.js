import assert from "node:assert/strict";
import { test } from "node:test";
import { describeDrafts, describeEnd } from "../../assets/views/write/status.js";

const end = { message: "Stopped at the length limit of 40 tokens.", code: "end.length", total: 40, rate: 12 };

test("the tokens per pass are shown if they exceed one", () => {
  assert.equal(describeEnd({ ...end, per_pass: 1.82 }), "Stopped at the length limit of 40 tokens, 12 a second, 1.8 tokens a pass");
  assert.equal(describeEnd({ ...end, per_pass: 1 }), "Stopped at the length limit of 40 tokens, 12 a second");
  assert.doesNotMatch(describeEnd({ ...end, per_pass: 1.82, completions: 2 }), /a pass/);
});

test("the tooltip names each drafter and counts its accepted tokens", () => {
  assert.equal(describeDrafts({}), "");
  assert.equal(
    describeDrafts({ drafts: [["lookup", 9, 5], ["model", 40, 31]] }),
    "Drafted from texts: 5 of 9 tokens were right. Drafted by the draft model: 31 of 40 tokens were right.",
  );
});
