// Numbers as people read them.

import { t } from "./i18n.js";

/** @param {number | string} n */
export const number = (n) => Number(n).toLocaleString("en");

/** @param {number} n @param {number} digits */
export const signed = (n, digits) => n.toFixed(digits).replace("-", "−");

/** @param {number} n @param {number} [digits] */
export const rounded = (n, digits = 1) => n.toLocaleString("en", { maximumFractionDigits: digits });

/** A number of bytes. @param {number} n */
export function bytesText(n) {
  if (n < 2 ** 20) return t("size.kilobytes", { size: String(Math.ceil(n / 2 ** 10)) });
  if (n < 1000 * 2 ** 20) return t("size.megabytes", { size: rounded(n / 2 ** 20) });
  return t("size.gigabytes", { size: rounded(n / 2 ** 30) });
}

/** A log-probability as a percentage. @param {number} logprob */
export function percent(logprob) {
  const value = 100 * Math.exp(logprob);
  return `${value >= 1 ? value.toFixed(1) : value >= 0.001 ? value.toPrecision(2) : value.toExponential(0)} %`;
}

/** Tokens a second. @param {number} rate */
export const rateText = (rate) => rate.toFixed(rate < 10 ? 1 : 0);
