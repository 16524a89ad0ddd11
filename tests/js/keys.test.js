import assert from "node:assert/strict";
import { test } from "node:test";
import { keyName, withKeyNames } from "../../assets/core/keys.js";

test("on a Mac the shortcuts in a text have its signs", () => {
  assert.equal(withKeyNames("Undo (Ctrl+Z), redo (Ctrl+Shift+Z).", true), "Undo (⌘Z), redo (⌘⇧Z).");
  assert.equal(withKeyNames("يفتح Alt+↓ الرمز، وCtrl+Z للتراجع", true), "يفتح ⌥↓ الرمز، و⌘Z للتراجع");
  assert.equal(withKeyNames("Control the Shift", true), "Control the Shift");
  assert.deepEqual(["Ctrl", "Alt", "Shift", "Enter"].map((key) => keyName(key, true)), ["⌘", "⌥", "⇧", "Enter"]);
});

test("on other machines they stay as they are", () => {
  assert.equal(withKeyNames("Undo (Ctrl+Z)", false), "Undo (Ctrl+Z)");
  assert.equal(keyName("Ctrl", false), "Ctrl");
});
