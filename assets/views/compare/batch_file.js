// The field with the file of rows: chooses or takes a dropped file, lets the server read it, and offers its columns.

import { finder, makeButton, setText } from "../../components/dom.js";
import { t, translated } from "../../core/i18n.js";
import { readRowsText } from "../../core/rows_file.js";

/** @typedef {import("../../core/batch.js").RowsFile} RowsFile */

export class FileField {
  /**
   * `read` lets the server read a file, `begins` is called before, `wrong` gets an error message if it fails, `chose` the
   * facts of a file that was read, and `insert` the placeholder of a column that was pressed.
   * @param {HTMLElement} root
   * @param {{read: (file: {name: string, text: string}) => Promise<any>, mostBytes: number, isLocked: () => boolean,
   *          begins: () => void, wrong: (why: string) => void, chose: (facts: string) => void, insert: (placeholder: string) => void}} handlers
   */
  constructor(root, handlers) {
    this.$ = finder(root);
    this.handlers = handlers;
    this.file = /** @type {RowsFile | null} */ (null);
    this.reading = 0;
    this.button = this.$('[data-batch="choose"]', HTMLButtonElement);
    const input = this.$("input[type=file]", HTMLInputElement);
    this.button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const chosen = input.files?.[0];
      input.value = ""; // so that the same file can be chosen again
      if (chosen) this.open(chosen);
    });
    this.takeDropped(root);
  }

  /** @param {HTMLElement} root */
  takeDropped(root) {
    const box = this.$(".batch-drop");
    const holdsFile = (/** @type {DragEvent} */ { dataTransfer }) => [...(dataTransfer?.types ?? [])].includes("Files");
    root.addEventListener("dragover", (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault();
      box.classList.add("is-over");
    });
    root.addEventListener("dragleave", ({ relatedTarget }) => {
      if (!(relatedTarget instanceof Node && root.contains(relatedTarget))) box.classList.remove("is-over");
    });
    root.addEventListener("drop", (event) => {
      box.classList.remove("is-over");
      const dropped = event.dataTransfer?.files[0];
      if (!dropped) return;
      event.preventDefault();
      this.open(dropped);
    });
  }

  /** Read a file; if that fails, the present one is kept. @param {File} chosen */
  async open(chosen) {
    const mine = ++this.reading;
    const { read, mostBytes, isLocked, begins, wrong } = this.handlers;
    begins();
    if (isLocked()) return wrong(t("batch.is_running"));
    try {
      const { text, hasMark, lineEnd } = await readRowsText(chosen, mostBytes);
      const answer = await read({ name: chosen.name, text }).catch(() => ({ message: t("batch.not_read") }));
      if (mine !== this.reading) return;
      if (!Array.isArray(answer?.rows)) throw new Error(translated(answer).message);
      this.use({ name: chosen.name, hasMark, lineEnd, ...answer });
    } catch (error) {
      wrong(t("batch.wrong_file", { name: chosen.name, why: /** @type {Error} */ (error).message }));
    }
  }

  /** @param {RowsFile} file */
  use(file) {
    this.file = file;
    const facts = t("batch.facts", { name: file.name, rows: t("batch.rows", { count: file.rows.length }) });
    setText(this.$(".batch-facts"), facts);
    setText(this.button, t("batch.choose_another"));
    const names = file.columns.filter(Boolean).map((name) => `{${name}}`);
    const columns = this.$(".batch-columns");
    columns.hidden = !names.length;
    columns.replaceChildren(...names.map((name) => makeButton("", name, () => this.handlers.insert(name), { title: t("batch.insert") })));
    this.handlers.chose(facts);
  }
}
