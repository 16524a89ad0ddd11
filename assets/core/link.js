// A text with its settings as a URL fragment: "#share=", the version, a dot, and JSON, deflated with a
// checksum and encoded in base64url. Browsers do not send fragments.

import { tail } from "./characters.js";
import { t } from "./i18n.js";
import { readMemory } from "./memory.js";

export const LINK_MARK = "#share=";
const LINK_VERSION = "2";
const EARLIER_VERSION = "1"; // the same format, but seeds gave other random numbers
export const MAX_LINK = 8000; // characters of the whole URL
const MAX_UNPACKED = 1_000_000; // bytes
const MAX_TEXT = 200_000; // characters; the server's limit
const MAX_CONTROLS = 200; // more than there are

// The message is a sentence for the visitor.
export class UnreadableLink extends Error {
  /** @param {string} message @param {{canTryAgain?: boolean}} [options] whether a reload may help */
  constructor(message, { canTryAgain = false } = {}) {
    super(message);
    this.canTryAgain = canTryAgain;
  }
}

const DAMAGED = t("link.damaged");
const NOT_OURS = t("link.not_ours");

/** @param {any} content */
async function deflate(content) {
  const bytes = new TextEncoder().encode(JSON.stringify(content));
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

/** Unpack bytes up to a limit: a few bytes can unpack to a thousand times as many. @param {Uint8Array<ArrayBuffer>} bytes */
async function inflate(bytes) {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    size += value.length;
    if (size > MAX_UNPACKED) {
      reader.cancel().catch(() => {});
      throw new UnreadableLink(t("link.too_large"));
    }
    text += decoder.decode(value, { stream: true });
  }
}

const lengthOfBase64 = (/** @type {Uint8Array} */ bytes) => Math.ceil((bytes.length * 4) / 3);

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** @param {string} text */
function fromBase64(text) {
  if (!/^[\w-]+$/.test(text)) throw new UnreadableLink(DAMAGED);
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  } catch {
    throw new UnreadableLink(DAMAGED);
  }
}

/** A 64-bit hash of a text: FNV-1a of its UTF-8. @param {string} text */
export function fingerprint(text) {
  let hash = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}

/**
 * The URL of `page` with this content, and what was left out to fit: first the model's words (a fingerprint
 * remains), then the longest settings down to half of the limit, then the beginning of the text. The content
 * of an earlier version's link keeps that version.
 * @param {LinkContent} given @param {string} page
 */
export async function makeLink(given, page) {
  const { isEarlier, ...content } = given;
  const base = `${page}${LINK_MARK}${isEarlier ? EARLIER_VERSION : LINK_VERSION}.`;
  const available = MAX_LINK - base.length;
  /** @type {{words: boolean, settings: string[], characters: number}} */
  const left = { words: false, settings: [], characters: 0 };
  /** @type {LinkContent} */
  let kept = content;
  let bytes = await deflate(kept);
  const fits = () => lengthOfBase64(bytes) <= available;
  if (!fits() && kept.words !== undefined) {
    const { words, ...rest } = kept;
    kept = { ...rest, hash: fingerprint(words), length: words.length };
    left.words = true;
    bytes = await deflate(kept);
  }
  if (!fits()) {
    const { text, controls, model, memory } = content;
    const settings = Object.entries(controls).sort(([, a], [, b]) => String(a).length - String(b).length);
    while (settings.length && lengthOfBase64(await deflate(Object.fromEntries(settings))) > available / 2) {
      left.settings.push(...settings.splice(-1).map(([name]) => name));
    }
    const withEnd = (/** @type {number} */ length) => ({ text: tail(text, length), controls: Object.fromEntries(settings), model, ...(memory ? { memory } : {}) });
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (lengthOfBase64(await deflate(withEnd(middle))) <= available) low = middle;
      else high = middle - 1;
    }
    kept = withEnd(low);
    left.characters = text.length - kept.text.length;
    bytes = await deflate(kept);
  }
  return { address: base + toBase64(bytes), content: kept, left };
}

/**
 * The content of a URL fragment; null if it is not a link. Throws UnreadableLink.
 * @param {string} fragment @returns {Promise<LinkContent | null>}
 */
export async function readLink(fragment) {
  if (!fragment.startsWith(LINK_MARK)) return null;
  const given = fragment.slice(LINK_MARK.length);
  const version = given.split(".", 1)[0];
  const packed = given.slice(version.length + 1);
  if (fragment.length > MAX_LINK) throw new UnreadableLink(t("link.too_long"));
  if (version !== LINK_VERSION && version !== EARLIER_VERSION) {
    throw new UnreadableLink(
      /^\d{1,3}$/.test(version)
        ? t("link.other_version", { version })
        : DAMAGED,
    );
  }
  let json;
  try {
    json = await inflate(fromBase64(packed));
  } catch (error) {
    throw error instanceof UnreadableLink ? error : new UnreadableLink(DAMAGED);
  }
  let content;
  try {
    content = JSON.parse(json);
  } catch {
    throw new UnreadableLink(NOT_OURS);
  }
  const checked = checkContent(content);
  return version === EARLIER_VERSION ? { ...checked, isEarlier: true } : checked;
}

/** @param {any} content @returns {LinkContent} */
function checkContent(content) {
  const isObject = (/** @type {any} */ value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const isText = (/** @type {any} */ value) => typeof value === "string" && value.length <= MAX_TEXT;
  const isCount = (/** @type {any} */ value) => Number.isInteger(value) && value >= 0;
  const isPlain = (/** @type {any} */ value) => value === null || ["number", "boolean"].includes(typeof value) || isText(value);
  const { text, controls, words, hash, length, of, ended, model } = isObject(content) ? content : {};
  const sound =
    isText(text) &&
    isObject(controls) &&
    Object.keys(controls).length <= MAX_CONTROLS &&
    Object.values(controls).every(isPlain) &&
    (words === undefined || isText(words)) &&
    (hash === undefined || (isText(hash) && isCount(length))) &&
    (of === undefined || (Array.isArray(of) && of.length === 2 && of.every(isCount))) &&
    (ended === undefined || isText(ended)) &&
    (model === undefined || (isObject(model) && Object.values(model).every((one) => one === null || isText(one))));
  if (!sound) throw new UnreadableLink(NOT_OURS);
  // as the textarea normalizes it
  const clean = (/** @type {string | undefined} */ value) => value?.replace(/\r\n?/g, "\n").replace(/\p{Surrogate}/gu, "\ufffd");
  const memory = readMemory(content.memory);
  return { text: clean(text) ?? "", controls, ...(memory ? { memory } : {}), words: clean(words), hash, length, of, ended, model };
}
