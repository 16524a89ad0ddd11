// Reads a text from an untrusted file. No DOM.

import { t } from "./i18n.js";

/** Several times what the page exports of the longest texts that the editor can handle. */
const MOST_BYTES = 40 * 2 ** 20;

/** Raises an error, whose message is for people, if a file is too large to be read. @param {File} file */
export function checkSize(file) {
  if (file.size <= MOST_BYTES) return;
  throw new Error(t("file.too_large", { size: Math.ceil(file.size / 2 ** 20), most: MOST_BYTES / 2 ** 20 }));
}

/** The text of a file, with the line ends of the page; raises an error whose message is for people. @param {File} file */
export async function readTextFile(file) {
  checkSize(file);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(t("file.no_text"));
  }
  if (text.includes("\0")) throw new Error(t("file.no_text"));
  return text.replace(/\r\n?/g, "\n");
}

/** How many words a text has. @param {string} text */
export const countWords = (text) => text.match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}'’-]*/gu)?.length ?? 0;
