// Messages about links: their content, what was left out, and the result of a replay.

import { commonStart, countCharacters, shorten as shortenTo } from "../../core/characters.js";
import { language, locale, t, valueText } from "../../core/i18n.js";
import { MAX_LINK, fingerprint } from "../../core/link.js";

const SHOWN_CHARACTERS = 40;
/** @type {Record<string, string>} */
const MODEL_PARTS = {
  name: t("share.the_model"),
  revision: t("share.its_revision"),
  precision: t("share.the_precision"),
  device: t("share.the_machine"),
  software: t("share.the_version"),
};

/** @type {Record<string, string>} why a link's words are not all that the model would have written */
const ENDS = { cancelled: t("share.link_was_stopped"), sentence: t("share.link_was_cut") };

/** @param {string} text */
export const shorten = (text) => shortenTo(text, SHOWN_CHARACTERS);

/** @param {string} text */
export const characters = (text) => t("count.characters", { count: countCharacters(text) });

/** @param {string[]} items */
const listed = (items) => new Intl.ListFormat(language === "en" ? "en-GB" : locale, { type: "conjunction" }).format(items);

/** @param {Controls} controls @param {(name: string) => string} labelOf */
export const describeControls = (controls, labelOf) =>
  Object.entries(controls).map(([name, value]) => `${labelOf(name)} ${shorten(valueText(value))}`);

/** @param {LinkContent} content @param {(name: string) => string} labelOf @param {boolean} hasModelText whether the text is a model's in part */
export function describeLink({ text, words, hash, controls, of, model }, labelOf, hasModelText) {
  const parts = [t("share.beginning", { count: countCharacters(text) })];
  if (words !== undefined) parts.push(t("share.model_words", { count: countCharacters(words) }));
  const names = describeControls(controls, labelOf);
  parts.push(names.length ? t("share.settings", { settings: names.join(t("text.comma")) }) : t("share.usual_settings"));
  const alone = of ? ` ${t("share.is_completion", { number: of[0], of: of[1] })}` : "";
  const canReplay = words !== undefined || hash !== undefined;
  const replay = canReplay
    ? ` ${t("share.can_replay", { model: model?.name ?? t("share.the_model") })}`
    : hasModelText
      ? ` ${t("share.cannot_replay")}`
      : "";
  return `${t("share.holds", { parts: listed(parts) })}${alone}${replay}`;
}

/** @param {{words: boolean, settings: string[], characters: number}} left @param {(name: string) => string} labelOf */
export function describeLeft({ words, settings, characters: cut }, labelOf) {
  if (cut || settings.length) {
    const parts = [];
    if (cut) parts.push(t("share.first_characters", { count: cut }));
    if (settings.length) parts.push(listed(settings.map(labelOf)));
    return t("share.left_out", { most: MAX_LINK, parts: listed(parts) });
  }
  return words
    ? t("share.words_left_out", { most: MAX_LINK })
    : "";
}

/**
 * How the words of a replay compare with the link's; `reasons` says why they may differ.
 * @param {LinkContent} content @param {string} mine @param {string} reason why the replay ended
 * @param {() => string} reasons @returns {{text: string, canReplay?: boolean, kind: string}}
 */
export function judge(content, mine, reason, reasons) {
  const { words } = content;
  const length = words === undefined ? (content.length ?? 0) : words.length;
  const matches = (/** @type {string} */ text) => (words === undefined ? fingerprint(text) === content.hash : text === words);
  if (mine.length === length && matches(mine)) {
    return { text: t("share.identical", { count: length }), kind: "identical" };
  }
  if (mine.length > length && matches(mine.slice(0, length))) {
    const why = content.ended && ENDS[content.ended] ? ` ${ENDS[content.ended]}` : reasons();
    return { text: t("share.identical_so_far", { count: length }) + why, kind: "identical" };
  }
  if (mine && words?.startsWith(mine)) {
    const why = reason === "cancelled" ? ` ${t("share.replay_was_stopped")}` : reasons();
    const text = t("share.same_so_far", { written: mine.length, count: length }) + why;
    return { text, canReplay: true, kind: "differs" };
  }
  const text = `${t("share.not_the_same")}${whereItDiffers(words, mine)}${reasons()} ${t("share.undo_words")}`;
  return { text, canReplay: true, kind: "differs" };
}

/** @param {string | undefined} words @param {string} mine */
function whereItDiffers(words, mine) {
  if (words === undefined) return "";
  const at = commonStart(words, mine);
  const piece = (/** @type {string} */ text) => (text.length > at ? t("text.quoted", { text: shorten(text.slice(at)).replaceAll("\n", "⏎") }) : t("share.its_end"));
  return ` ${t(at ? "share.differs_after" : "share.differs_at_once", { count: countCharacters(words.slice(0, at)), link: piece(words), replay: piece(mine) })}`;
}

/**
 * Known reasons why words can differ: the parts of the model, and `others`. `isExact`: whether this machine's results
 * are reproducible.
 * @param {LinkContent} content @param {Record<string, string | null>} here the model of the replay
 * @param {string[]} others @param {boolean} isExact
 */
export function whyItMayDiffer(content, here, others, isExact) {
  const there = content.model ?? {};
  const reasons = [];
  for (const [part, called] of Object.entries(MODEL_PARTS)) {
    if (there[part] === undefined || (there[part] ?? null) === (here[part] ?? null)) continue;
    const values = part === "software" ? "" : ` (${t("share.there_here", { there: shorten(there[part] ?? t("text.none")), here: shorten(here[part] ?? t("text.none")) })})`;
    reasons.push(`${called}${values}`);
  }
  if (content.isEarlier && !reasons.includes(MODEL_PARTS.software)) reasons.push(MODEL_PARTS.software);
  reasons.push(...others);
  if (reasons.length) return ` ${t("share.different", { reasons: listed(reasons) })}`;
  if (!content.model) return ` ${t("share.no_model")}`;
  return ` ${t(isExact ? "share.was_changed" : "share.not_exact")}`;
}
