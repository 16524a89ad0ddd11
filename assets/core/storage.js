// The browser's storage, which can be absent, refused or full.

/** The value of a key; null if there is none or the storage cannot be read. @param {string} key @param {"localStorage" | "sessionStorage"} [kind] */
export function read(key, kind = "localStorage") {
  try {
    return globalThis[kind].getItem(key);
  } catch {
    return null;
  }
}

/** Returns whether the browser keeps it. @param {string} key @param {string} text @param {"localStorage" | "sessionStorage"} [kind] */
export function write(key, text, kind = "localStorage") {
  try {
    globalThis[kind].setItem(key, text);
    return true;
  } catch {
    return false;
  }
}

/** @param {string} key @param {"localStorage" | "sessionStorage"} [kind] */
export function remove(key, kind = "localStorage") {
  try {
    globalThis[kind].removeItem(key);
  } catch {
    // no storage, nothing to remove
  }
}

/** @param {string} prefix @param {"localStorage" | "sessionStorage"} [kind] @returns {string[]} */
export function keys(prefix, kind = "localStorage") {
  try {
    return Object.keys(globalThis[kind]).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

export function isAvailable() {
  try {
    return Boolean(localStorage);
  } catch {
    return false;
  }
}

/** The JSON under a key, null where there is none. @param {string} key @param {"localStorage" | "sessionStorage"} [kind] */
export function readJSON(key, kind) {
  try {
    return JSON.parse(read(key, kind) ?? "null");
  } catch {
    return null;
  }
}
