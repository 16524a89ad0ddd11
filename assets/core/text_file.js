// Reads a text from an untrusted file. No DOM.

import { t } from "./i18n.js";

const MOST_BYTES = 5 * 2 ** 20;
export const MOST_CHARACTERS = 200_000; // the server's limit

/** The text of a file, with the line ends of the page; raises an error whose message is for people. @param {File} file */
export async function readTextFile(file) {
  if (file.size > MOST_BYTES) {
    throw new Error(t("file.too_large", { size: Math.ceil(file.size / 2 ** 20), most: MOST_BYTES / 2 ** 20 }));
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw new Error(t("file.no_text"));
  }
  if (text.includes("\0")) throw new Error(t("file.no_text"));
  if (text.length > MOST_CHARACTERS) throw new Error(t("file.long_text", { count: text.length, most: MOST_CHARACTERS }));
  return text.replace(/\r\n?/g, "\n");
}

/** How many words a text has. @param {string} text */
export const countWords = (text) => text.match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}'’-]*/gu)?.length ?? 0;
