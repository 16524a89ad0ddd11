// The menu for the text as a document: copy, new, open, save, read aloud, print, spelling. A file can be dropped on the sheet too.

import { closeBeside, copyText, download, find, isComposing, onPress } from "../../components/dom.js";
import { emit } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import { sessions } from "../../core/sessions.js";
import * as storage from "../../core/storage.js";
import { readTextFile } from "../../core/text_file.js";
import { ReadAloud } from "./read_aloud.js";

const SPELLING = "gptj-playground/spelling";

/**
 * `isLocked()`: whether the model writes; `say(text)` is for screen readers.
 * @param {HTMLElement} root @param {import("./sheet.js").Sheet} sheet
 * @param {{isLocked: () => boolean, say: (text: string) => void, openMemory: () => void}} editor
 */
export function makeFileMenu(root, sheet, { isLocked, say, openMemory }) {
  const { area, box } = sheet;
  const aloud = new ReadAloud(root, sheet, isLocked);
  const menu = /** @type {HTMLDetailsElement} */ (find(root, ".file-menu"));
  const input = find(root, ".open-file", HTMLInputElement);
  const spelling = find(menu, '[data-file="spelling"]');

  /** @param {() => void} act */
  const unlessLocked = (act) => () => (isLocked() ? emit("notice", t("branches.wait")) : act());

  /** @param {"text" | "json"} form */
  function saveAs(form) {
    const { file, type, content } = sessions.export(form);
    download(file, type, content);
    say(t("branches.exported", { file }));
  }

  async function copy() {
    const { selection } = sheet;
    const isCopied = await copyText(area.value, () => area.select());
    area.setSelectionRange(...selection);
    if (isCopied) say(t("share.copied"));
    else emit("notice", t("editor.not_copied"));
  }

  /** @param {boolean} isOn */
  function checkSpelling(isOn) {
    area.spellcheck = isOn;
    spelling.setAttribute("aria-pressed", String(isOn));
    storage.write(SPELLING, isOn ? "on" : "off");
  }

  /** Open a file's session, or its text as a new session; if it has neither, the present text stays. @param {File} file */
  async function open(file) {
    if (isLocked()) return emit("notice", t("branches.wait"));
    try {
      if (/\.json$/i.test(file.name)) {
        await sessions.import(file);
      } else {
        const text = await readTextFile(file);
        if (isLocked()) return emit("notice", t("branches.wait"));
        sessions.begin();
        emit("text", text);
      }
      say(t("branches.imported", { file: file.name }));
    } catch (error) {
      emit("notice", t("branches.not_imported", { why: /** @type {Error} */ (error).message }));
    }
  }

  onPress(
    menu,
    {
      copy,
      new: unlessLocked(() => sessions.begin()),
      open: unlessLocked(() => input.click()),
      text: () => saveAs("text"),
      session: () => saveAs("json"),
      memory: openMemory,
      aloud: () => (aloud.isReading ? aloud.stop() : aloud.start()),
      print: () => window.print(),
      spelling: () => checkSpelling(!area.spellcheck),
    },
    "file",
  );
  menu.addEventListener("click", ({ target }) => {
    if (target instanceof Element && target.closest("button")) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    const buttons = /** @type {HTMLElement[]} */ ([...menu.querySelectorAll("button")]);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (isComposing(event) || !menu.open) return;
    if (event.key === "Escape") {
      menu.open = false;
      find(menu, "summary").focus();
    } else if (step) {
      const at = buttons.indexOf(/** @type {HTMLElement} */ (document.activeElement));
      buttons[(at + step + buttons.length) % buttons.length].focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  closeBeside(menu);

  input.addEventListener("change", () => {
    const file = input.files?.[0];
    input.value = ""; // so that the same file can be chosen again
    if (file) open(file);
  });
  const holdsFile = (/** @type {DragEvent} */ { dataTransfer }) => [...(dataTransfer?.types ?? [])].includes("Files");
  box.addEventListener("dragover", (event) => holdsFile(event) && event.preventDefault());
  box.addEventListener("drop", (event) => {
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    open(file);
  });

  checkSpelling(storage.read(SPELLING) === "on");
}
