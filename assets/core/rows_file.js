// Reads the text of an untrusted file of rows. No DOM.

import { t } from "./i18n.js";

const MEGABYTE = 2 ** 20;

/**
 * The text of a file, and how it marks its encoding and ends its lines; raises an error whose message is for people.
 * @param {File} file @param {number} mostBytes
 */
export async function readRowsText(file, mostBytes) {
  if (file.size > mostBytes) throw new Error(t("file.too_large", { size: Math.ceil(file.size / MEGABYTE), most: mostBytes / MEGABYTE }));
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error(t("rows.no_text"));
  }
  if (text.includes("\0")) throw new Error(t("rows.no_text"));
  return { text, hasMark: bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf, lineEnd: text.includes("\r\n") ? "\r\n" : "\n" };
}
