// Keys that an input method gets are not the page's.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

const ASSETS = new URL("../../assets/", import.meta.url);

test("each handler of Escape leaves that of an input method alone", () => {
  const files = readdirSync(ASSETS, { recursive: true }).map(String).filter((file) => file.endsWith(".js"));
  const careless = files.filter((file) => {
    const text = readFileSync(new URL(file, ASSETS), "utf8");
    return /key [!=]== "Escape"/.test(text) && !text.includes("isComposing(event)");
  });
  assert.deepEqual(careless, []);
});
