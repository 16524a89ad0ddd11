// The text as a list of pieces [text, run]: run 0 is written by the person, any other run by the model.
// Every change is a step that can be undone and redone. No DOM.

import { commonEnd, commonStart, countCharacters } from "./characters.js";

export const PERSON = 0;
const STEP_PAUSE_MS = 2000; // typing after a longer pause is a new step

export const pieces = {
  /** @param {Piece[]} list */
  text: (list) => list.map(([text]) => text).join(""),

  /** @param {Piece[]} list */
  length: (list) => list.reduce((sum, [text]) => sum + text.length, 0),

  /** Merge neighbours of the same author, and leave out empty pieces. @param {...Piece[]} lists */
  join(...lists) {
    const joined = /** @type {Piece[]} */ ([]);
    for (const [text, run] of lists.flat()) {
      if (!text) continue;
      const last = joined[joined.length - 1];
      if (last && last[1] === run) last[0] += text;
      else joined.push([text, run]);
    }
    return joined;
  },

  /** @param {Piece[]} list @param {number} from @param {number} to */
  slice(list, from, to) {
    const cut = /** @type {Piece[]} */ ([]);
    let start = 0;
    for (const [text, run] of list) {
      const end = start + text.length;
      if (end > from && start < to) {
        cut.push([text.slice(Math.max(0, from - start), to - start), run]);
      }
      start = end;
      if (start >= to) break;
    }
    return cut;
  },

  /** @param {Piece[]} list @param {number} at @param {number} removedLength @param {Piece[]} inserted */
  splice(list, at, removedLength, inserted) {
    return pieces.join(
      pieces.slice(list, 0, at),
      inserted,
      pieces.slice(list, at + removedLength, Infinity),
    );
  },
};

/**
 * The difference of two texts as one replacement of whole characters. Typed text ends at the caret, which
 * resolves ambiguities between equal characters.
 * @param {string} before @param {string} after @param {number} caret
 */
export function difference(before, after, caret) {
  const suffix = commonEnd(before, after, after.length - caret);
  const prefix = commonStart(before.slice(0, before.length - suffix), after.slice(0, after.length - suffix));
  return {
    at: prefix,
    removed: before.slice(prefix, before.length - suffix),
    inserted: after.slice(prefix, after.length - suffix),
  };
}

/** The end of the text that a step inserted. @param {Step} step */
export const endOfStep = ({ at, inserted }) => at + pieces.length(inserted);

export class WrittenText {
  /** @param {{pieces: Piece[], steps: Step[], position: number, runs: number}} [saved] */
  constructor(saved) {
    /** @type {Piece[]} */
    this.pieces = saved?.pieces ?? [];
    /** @type {Step[]} */
    this.steps = saved?.steps ?? [];
    this.position = saved?.position ?? 0; // steps[0..position) are done, the others undone
    this.runs = saved?.runs ?? 0;
  }

  get text() {
    return pieces.text(this.pieces);
  }

  get canUndo() {
    return this.position > 0;
  }

  get canRedo() {
    return this.position < this.steps.length;
  }

  get endsWithModel() {
    const last = this.pieces.at(-1);
    return last !== undefined && last[1] !== PERSON;
  }

  /** The range of the words that the model wrote last, null if there are none in the text. */
  get latestPlace() {
    const latest = this.pieces.reduce((most, [, run]) => Math.max(most, run), PERSON);
    return latest === PERSON ? null : this.placeOf(latest);
  }

  /** The range of a run's words, including what was written between them. @param {number} run */
  placeOf(run) {
    let place = /** @type {{from: number, to: number} | null} */ (null);
    let start = 0;
    for (const [text, author] of this.pieces) {
      if (author === run) place = { from: place?.from ?? start, to: start + text.length };
      start += text.length;
    }
    return place;
  }

  // A new step does not drop undone steps: they are appended as redone and undone, so that undoing far
  // enough reaches them.
  keepTakenBack() {
    for (let i = this.steps.length - 1; i >= this.position; i -= 1) {
      const step = this.steps[i];
      this.steps.push({
        ...step,
        kind: "back",
        removed: step.inserted,
        inserted: step.removed,
        before: step.after,
        after: step.before,
      });
    }
    this.position = this.steps.length;
  }

  /**
   * Replace `removedLength` characters at `at`; returns the step, which is added to the history.
   * @param {string} kind @param {number} at @param {number} removedLength @param {Piece[]} inserted
   * @param {Place} before the selection @param {Place} after @returns {Step}
   */
  replace(kind, at, removedLength, inserted, before, after) {
    this.keepTakenBack();
    const step = {
      kind,
      at,
      removed: pieces.slice(this.pieces, at, at + removedLength),
      inserted: pieces.join(inserted),
      before,
      after,
      time: Date.now(),
    };
    this.pieces = pieces.splice(this.pieces, at, removedLength, step.inserted);
    const last = this.steps[this.steps.length - 1];
    if (last && this.follows(step, last)) this.mergeInto(last, step);
    else this.steps.push(step);
    this.position = this.steps.length;
    return step;
  }

  /** Whether a step continues the last one: typing within a word, or deleting. @param {Step} step @param {Step} last */
  follows(step, last) {
    if (step.kind !== "type" || last.kind !== "type" || step.time - last.time > STEP_PAUSE_MS) return false;
    const [added, gone] = [pieces.text(step.inserted), pieces.text(step.removed)];
    const lastAdded = pieces.text(last.inserted);
    if (countCharacters(added) === 1 && !gone && lastAdded && !pieces.length(last.removed)) {
      const newWord = /\s$/.test(lastAdded) && /\S/.test(added);
      return step.at === last.at + lastAdded.length && !newWord && added !== "\n";
    }
    if (countCharacters(gone) === 1 && !added && !lastAdded) {
      return step.at + gone.length === last.at || step.at === last.at;
    }
    return false;
  }

  /** @param {Step} last @param {Step} step */
  mergeInto(last, step) {
    if (pieces.length(step.inserted)) {
      last.inserted = pieces.join(last.inserted, step.inserted);
    } else if (step.at < last.at) {
      last.removed = pieces.join(step.removed, last.removed);
      last.at = step.at;
    } else {
      last.removed = pieces.join(last.removed, step.removed);
    }
    last.after = step.after;
    last.time = step.time;
  }

  /**
   * The model's words: one step that grows as they arrive. Given words are a separate run, so that a retry
   * keeps them; `shown` are words of this run.
   * @param {number} at @param {number} removedLength @param {Place} selection
   */
  beginRun(at, removedLength, selection, given = "", shown = "") {
    this.runs += given ? 2 : 1;
    const end = at + given.length + shown.length;
    return this.replace("generate", at, removedLength, [[given, this.runs - 1], [shown, this.runs]], selection, [end, end]);
  }

  /** @param {Step} step @param {string} text */
  extendRun(step, text) {
    /** @type {Piece[]} */
    const addition = [[text, this.runs]];
    this.pieces = pieces.splice(this.pieces, endOfStep(step), 0, addition);
    step.inserted = pieces.join(step.inserted, addition);
    step.after = [endOfStep(step), endOfStep(step)];
  }

  /** Remove the last characters of a run. @param {Step} step @param {number} length */
  shortenRun(step, length) {
    const end = pieces.length(step.inserted) - length;
    step.inserted = pieces.slice(step.inserted, 0, end);
    this.pieces = pieces.splice(this.pieces, step.at + end, length, []);
    step.after = [step.at + end, step.at + end];
  }

  /**
   * Remove a run without words and restore what it had cut; a run with given words, or with the words that it
   * had cut, is removed only if it failed. Returns whether it was removed.
   * @param {Step} step
   */
  endRun(step, failed = false) {
    const hasWords = step.inserted.some(([, run]) => run === this.runs) && pieces.text(step.inserted) !== pieces.text(step.removed);
    if (failed ? hasWords : step.inserted.length) return false;
    this.undo();
    this.steps.pop();
    return true;
  }

  undo() {
    if (!this.canUndo) return null;
    this.position -= 1;
    const step = this.steps[this.position];
    this.pieces = pieces.splice(this.pieces, step.at, pieces.length(step.inserted), step.removed);
    return { at: step.at, removed: step.inserted, inserted: step.removed, selection: step.before };
  }

  redo() {
    if (!this.canRedo) return null;
    const step = this.steps[this.position];
    this.position += 1;
    this.pieces = pieces.splice(this.pieces, step.at, pieces.length(step.removed), step.inserted);
    return { at: step.at, removed: step.removed, inserted: step.inserted, selection: step.after };
  }
}
