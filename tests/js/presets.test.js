// A visitor's own presets: what is read from storage and files, and how the list changes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LONGEST_NAME, MOST_PRESETS, readPresetFile, readPresets, withPreset, withoutPreset } from "../../assets/core/presets.js";

const hot = { name: "hot", controls: { temperature: 1.3 } };
const cold = { name: "cold", controls: { temperature: 0.3, stop: "x", echo: true } };

test("invalid presets are left out", () => {
  const kept = {
    version: 1, default: "hot",
    presets: [hot, null, 3, { name: "" , controls: {} }, { name: "x".repeat(LONGEST_NAME + 1), controls: {} },
      { name: "list", controls: [] }, { name: "nested", controls: { a: { b: 1 }, temperature: 1 } }, cold],
  };
  assert.deepEqual(readPresets(kept), {
    presets: [hot, { name: "nested", controls: { temperature: 1 } }, cold], default: "hot",
  });
  assert.equal(readPresets({ ...kept, default: "gone" }).default, null);
  for (const wrong of [null, 1, [], {}, { version: 2, presets: [] }, { version: 1, presets: {} }]) assert.equal(readPresets(wrong), null);
  const polluting = readPresets(JSON.parse('{"version":1,"presets":[{"name":"p","controls":{"__proto__":{"x":1},"top_k":2}}]}'));
  assert.equal({}.x, undefined);
  assert.equal(polluting.presets[0].controls.top_k, 2);
});

test("preset names are unique, and deleting the default preset unsets the default", () => {
  const own = withPreset({ presets: [hot, cold], default: "hot" }, { name: "hot", controls: { top_k: 3 } });
  assert.deepEqual(own.presets, [cold, { name: "hot", controls: { top_k: 3 } }]);
  assert.deepEqual(withoutPreset(own, "hot"), { presets: [cold], default: null });
  let many = { presets: [], default: null };
  for (let i = 0; i < MOST_PRESETS; i++) many = withPreset(many, { name: `p${i}`, controls: {} });
  assert.throws(() => withPreset(many, hot), { message: /at most 100 presets.*Delete some/ });
  assert.deepEqual(withPreset(many, { name: "p0", controls: { top_k: 3 } }).presets.at(-1), { name: "p0", controls: { top_k: 3 } });
  assert.equal(readPresets({ version: 1, presets: [...many.presets, hot] }).presets.length, MOST_PRESETS + 1, "no preset of a file is dropped");
});

test("a file without presets is refused with a sentence", async () => {
  for (const text of ["", "[]", "{", '{"version":1,"presets":[]}', "\u0000"]) {
    await assert.rejects(readPresetFile(new File([text], "p.json")), { message: /^The file .*\.$/ });
  }
  const found = await readPresetFile(new File([JSON.stringify({ version: 1, presets: [hot] })], "p.json"));
  assert.deepEqual(found.presets, [hot]);
});
