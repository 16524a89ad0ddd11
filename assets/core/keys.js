// The names of keys on the visitor's keyboard. The texts name the keys of Linux and Windows, such as Ctrl+Z.

/** @type {Record<string, string>} */
const MAC = { Ctrl: "⌘", Alt: "⌥", Shift: "⇧" };
export const isMac = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? "");

/** The name of one key. @param {string} key @param {boolean} [mac] */
export const keyName = (key, mac = isMac) => (mac ? (MAC[key] ?? key) : key);

/** A text with the names of the keys in its shortcuts. @param {string} text @param {boolean} [mac] */
export const withKeyNames = (text, mac = isMac) => (mac ? text.replace(/\b(Ctrl|Alt|Shift)\+/g, (_, key) => MAC[key]) : text);
