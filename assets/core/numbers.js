// Numbers as people type them. Pure: no DOM.

const ARABIC_ZERO = 0x660;

/** A typed text as a number field takes it: converts Arabic digits, and commas as decimal signs. @param {string} typed @param {boolean} isWhole */
export const typedNumber = (typed, isWhole) =>
  typed
    .replace(/[\u0660-\u0669]/g, (digit) => String(digit.charCodeAt(0) - ARABIC_ZERO))
    .replace(/[,\u066b\u066c]/g, isWhole ? "" : ".");

/**
 * The number of a field for a typed text: clamped to the limits, and rounded if the field takes whole numbers; null
 * if the text is not a number.
 * @param {string} typed @param {{minimum: number, maximum: number, isWhole: boolean}} field @returns {number | null}
 */
export function settled(typed, { minimum, maximum, isWhole }) {
  const text = typedNumber(typed.trim(), isWhole);
  const value = Number(text);
  if (!text || !Number.isFinite(value)) return null;
  return Math.min(maximum, Math.max(minimum, isWhole ? Math.round(value) : value));
}

/** Whether a typed number is beyond the limits of its field. @param {string} typed @param {{minimum: number, maximum: number, isWhole: boolean}} field */
export function isBeyond(typed, { minimum, maximum, isWhole }) {
  const text = typedNumber(typed.trim(), isWhole);
  return text !== "" && (Number(text) < minimum || Number(text) > maximum);
}
