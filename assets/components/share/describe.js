// Sentences about links: what one holds, what it lacks, what it brought, and how its replay went.

import { number, plural, shorten as shortenTo } from "../../core/format.js";
import { MAX_LINK, fingerprint } from "../../core/link.js";

const SHOWN_CHARACTERS = 40;
/** @type {Record<string, string>} */
const MODEL_PARTS = {
  name: "the model",
  revision: "its revision",
  precision: "the precision",
  device: "the machine",
  software: "the version of the playground",
};

/** @param {string} text */
export const shorten = (text) => shortenTo(text, SHOWN_CHARACTERS);

/** @param {number} n */
export const characters = (n) => plural(n, "character");

/** @param {string[]} items */
const listed = (items) => (items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items.join(""));

/** @param {Controls} controls @param {(name: string) => string} labelOf */
export const describeControls = (controls, labelOf) =>
  Object.entries(controls).map(([name, value]) => {
    const shown = value === true ? "on" : value === false ? "off" : shorten(String(value).replaceAll("\n", " ⏎ "));
    return `${labelOf(name)} ${shown}`;
  });

/** @param {LinkContent} content @param {(name: string) => string} labelOf @param {boolean} hasModelText whether the text is a model's in part */
export function describeLink({ text, words, hash, controls, of, model }, labelOf, hasModelText) {
  const parts = [`the beginning (${characters(text.length)})`];
  if (words !== undefined) parts.push(`what the model wrote (${characters(words.length)})`);
  const names = describeControls(controls, labelOf);
  parts.push(names.length ? `the settings (${names.join(", ")})` : "the settings, which are the usual ones");
  const alone = of ? ` It is completion ${of[0]} of ${of[1]}, with the seed that gives it alone.` : "";
  const canReplay = words !== undefined || hash !== undefined;
  const replay = canReplay
    ? ` Whoever opens it can replay it, and sees whether ${model?.name ?? "the model"} writes the same words again.`
    : hasModelText
      ? " It cannot be replayed: the text was changed after the model's last words, or the page loaded anew."
      : "";
  return `It holds ${listed(parts)}.${alone}${replay}`;
}

/** @param {{words: boolean, settings: string[], characters: number}} left @param {(name: string) => string} labelOf */
export function describeLeft({ words, settings, characters: cut }, labelOf) {
  if (cut || settings.length) {
    const parts = [];
    if (cut) parts.push(`the first ${characters(cut)} of the text`);
    if (settings.length) parts.push(listed(settings.map(labelOf)));
    return `Not in it, for a link has at most ${number(MAX_LINK)} characters: ${listed(parts)}. So it cannot be replayed.`;
  }
  return words
    ? `The model's words are not in it, for a link has at most ${number(MAX_LINK)} characters. A replay writes them anew, and can tell whether they are the same.`
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
    return { text: `Identical: the replay wrote the same ${characters(length)}.`, kind: "identical" };
  }
  if (mine.length > length && matches(mine.slice(0, length))) {
    const why = content.ended === "cancelled" ? " The link's words had been stopped by hand." : reasons();
    return { text: `Identical as far as the link goes, ${characters(length)}; the replay went on.${why}`, kind: "identical" };
  }
  if (mine && words?.startsWith(mine)) {
    const why = reason === "cancelled" ? " The replay was stopped." : reasons();
    const text = `The same words as far as the replay went, ${number(mine.length)} of ${characters(length)}.${why}`;
    return { text, canReplay: true, kind: "differs" };
  }
  const text = `Not the same words.${whereItDiffers(words, mine)}${reasons()} Undo brings the link's words back.`;
  return { text, canReplay: true, kind: "differs" };
}

/** @param {string | undefined} words @param {string} mine */
function whereItDiffers(words, mine) {
  if (words === undefined) return "";
  let at = 0;
  while (at < words.length && at < mine.length && words[at] === mine[at]) at += 1;
  const same = at ? `The first ${characters(at)} are the same; then the` : "From the first character on the";
  const piece = (/** @type {string} */ text) => (text.length > at ? `“${shorten(text.slice(at)).replaceAll("\n", "⏎")}”` : "its end");
  return ` ${same} link has ${piece(words)} and the replay ${piece(mine)}.`;
}

/**
 * Why words can differ, as far as that can be known. `wrong` are settings that the link gives values they
 * cannot have; `isExact`: whether this machine always writes the same.
 * @param {LinkContent} content @param {Record<string, string | null>} here the model of the replay
 * @param {string[]} wrong @param {boolean} isExact
 */
export function whyItMayDiffer(content, here, wrong, isExact) {
  const there = content.model ?? {};
  const reasons = [];
  for (const [part, called] of Object.entries(MODEL_PARTS)) {
    if (there[part] === undefined || (there[part] ?? null) === (here[part] ?? null)) continue;
    const values = part === "software" ? "" : ` (${shorten(there[part] ?? "none")} there, ${shorten(here[part] ?? "none")} here)`;
    reasons.push(`${called}${values}`);
  }
  for (const name of wrong) reasons.push(`the setting ${name}, which the link gives a value it cannot have`);
  if (reasons.length) return ` Different is ${listed(reasons)}.`;
  if (!content.model) return " The link does not say which model wrote its words.";
  return isExact
    ? " Model, precision and version are those that the link names: so its words, text or settings were changed after they were written."
    : " Model, precision and version are those that the link names; in this precision or on this machine the last digits of a probability depend on what runs beside it, and now and then a word with them.";
}
