// Formats differences of log-probabilities and pieces of text.

import { codePoint } from "../../components/dom.js";
import { head, tail } from "../../core/characters.js";
import { number, signed } from "../../core/format.js";
import { t } from "../../core/i18n.js";

/** @type {Record<string, string>} */
const SIGNS = { "\n": "↵\n", "\t": "⇥\t" };

/** The change of a probability, in words, for a difference of log-probabilities. @param {number} delta */
export function change(delta) {
  const factor = Math.exp(Math.abs(delta));
  if (factor < 1.005) return t("why.as_likely");
  const digits = factor < 10 ? factor.toFixed(factor < 1.1 ? 2 : 1) : null;
  const times = digits ?? (factor < 1e6 ? number(Math.round(factor)) : power(Math.abs(delta)));
  return t(delta > 0 ? "why.times_as" : "why.times_less", { times });
}

/** A number too large to say, by its logarithm: "2 × 10^8". @param {number} logarithm */
function power(logarithm) {
  const tens = logarithm / Math.LN10;
  const exponent = Math.floor(tens);
  return `${(10 ** (tens - exponent)).toFixed(1)} × 10^${exponent}`;
}

/** The same in a sentence that names what it is compared with. @param {number} delta @param {string} name */
export const against = (delta, name) =>
  t(Math.exp(delta) > 0.995 ? "why.as_after" : "why.than_after", { change: change(delta), name });

/** @param {number} delta */
export const difference = (delta) => `${delta > 0 ? "+" : ""}${signed(delta, 2)}`;

/** A text with its line ends and invisible characters made visible. @param {string} text */
export const shown = (text) => text.replace(/\p{C}/gu, (c) => SIGNS[c] ?? codePoint(c));

/** @param {string} text */
export const clip = (text) => (text.length > 90 ? `${head(text, 44)} … ${tail(text, 40)}` : text);
