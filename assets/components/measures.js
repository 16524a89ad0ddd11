// The measures of a text in words, the same wherever they are shown.

import { t } from "../core/i18n.js";
import { bitsText, perplexityText } from "../core/measures.js";

/** @param {{bitsPerToken: number, perplexity: number, bitsPerByte: number | null}} measures */
export function describeMeasures({ bitsPerToken, perplexity, bitsPerByte }) {
  const said = [t("token.bits_per_token", { value: bitsText(bitsPerToken) }), t("token.perplexity", { value: perplexityText(perplexity) })];
  if (bitsPerByte !== null) said.push(t("token.bits_per_byte", { value: bitsText(bitsPerByte) }));
  return said;
}
