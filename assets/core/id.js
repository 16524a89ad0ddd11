// A random id of 128 bits: for requests, sessions and nodes of the tree.

/** @returns {string} */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
}
