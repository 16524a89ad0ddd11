// Reports a text to those who run this playground: shows exactly what is sent and asks for consent. The
// button is in the editor's menu and hidden if the playground takes no reports.

import { tail } from "../../core/characters.js";
import { messageText, t } from "../../core/i18n.js";
import { state } from "../../core/state.js";
import { editorsField, finder, onPress } from "../dom.js";
import { openDialog } from "../share/menu.js";

/** @param {Component} component */
export function mount({ element, props, server }) {
  const $ = finder(element);
  const dialog = $("#report-dialog", HTMLDialogElement);
  const consent = $('[type="checkbox"]', HTMLInputElement);
  const reason = $(".report-reason textarea", HTMLTextAreaElement);
  const send = $('[data-report="send"]', HTMLButtonElement);
  const note = $(".quiet-note");
  /** @type {{text: string, controls: Controls, model: unknown} | null} */
  let content = null;

  const opener = /** @type {HTMLElement} */ (document.querySelector('#editor [data-report="open"]'));
  opener.hidden = false;
  opener.addEventListener("click", open);

  function open() {
    const text = editorsField()?.value ?? "";
    const { name, revision, precision } = state.status?.model ?? {};
    content = { text: tail(text, Number(props.most)), controls: { ...state.controls }, model: { name, revision, precision } };
    $("#report-sent code").textContent = JSON.stringify(content, null, 2);
    consent.checked = false;
    reason.value = note.textContent = "";
    show();
    openDialog(dialog);
  }

  function show() {
    send.disabled = !consent.checked || !content?.text.trim();
    if (!content?.text.trim()) note.textContent = t("report.empty");
  }

  consent.addEventListener("change", show);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  onPress(element, { close: () => dialog.close(), send: sendIt }, "report");

  async function sendIt() {
    if (!content) return;
    send.disabled = true;
    const silent = { kept: false, code: "share.no_answer", values: {} };
    const answer = await server.report({ ...content, reason: reason.value }).catch(() => silent);
    note.textContent = messageText(answer);
    if (answer.kept) content = null;
    else show();
  }
}
