// The model's turn: sends a request, inserts the words of its records into the text, and ends it.

import { boundaryBefore } from "../../core/characters.js";
import { emit } from "../../core/events.js";
import { t } from "../../core/i18n.js";
import * as pending from "../../core/pending.js";
import { Run } from "../../core/run.js";
import { sessions } from "../../core/sessions.js";
import { state } from "../../core/state.js";
import { readTokens } from "../../core/tokens.js";
import { Completions } from "./completions.js";
import { endingOf } from "./ending.js";
import { advance, newProgress } from "./progress.js";

const MOST_TOKENS = 2048; // of a request
const LOST = t("editor.lost");
const STOPPED_UNHEARD = t("editor.no_answer");

export class Generation {
  /**
   * @param {Pick<Component, "server" | "trigger">} component
   * @param {import("./writing.js").Writing} writing @param {import("./tokens.js").TokenView} tokens
   * @param {{begun: () => void, progress: () => void, wrote: () => void, dropped: (prompt: string) => void,
   *          ended: (end: any, all: {text: string, end: any}[]) => void, lost: (message: string) => void, say: (text: string) => void}} editor
   */
  constructor({ server, trigger }, writing, tokens, editor) {
    this.server = server;
    this.trigger = trigger;
    this.writing = writing;
    this.tokens = tokens;
    this.editor = editor;
    this.run = /** @type {Run | null} */ (null); // the running request
    this.progress = newProgress();
    this.step = /** @type {Step | null} */ (null);
    this.completions = new Completions();
    this.isEnough = false; // whether the page stopped it at the end of a sentence
    this.isRetry = false;
    this.saidLost = false; // whether the page has said that a request is lost
    this.next = /** @type {(() => void) | null} */ (null); // called when the run has ended
    this.marked = /** @type {string[]} */ ([]); // sentences that the server's filter flagged, in the text or not
    this.request = /** @type {pending.PendingRequest | null} */ (null);
    this.shown = ""; // words of the run that are shown already, and that the log repeats
  }

  get isRunning() {
    return this.run !== null;
  }

  /** Make the request again that was interrupted, if its text is as it was then; else say that it is lost. */
  resume() {
    if (this.run) return;
    const { request, isLost } = pending.take(sessions.current.id, this.writing.written.text);
    if (isLost && !this.saidLost) this.editor.lost(t("editor.generation_lost"));
    this.saidLost = isLost;
    if (!request) return;
    const { prompt, shown, controls, tries } = request;
    this.generate({ at: prompt.length, shown, controls, tries });
  }

  /**
   * The text is cut at `at`; `given` is an existing beginning of the model's words; `controls` are this
   * request's overrides of the panel. A lost request is made again with the words that are `shown` and the number
   * of `tries`.
   * @param {{retry?: boolean, at?: number, given?: string, controls?: Controls, shown?: string, tries?: number,
   *          isRest?: boolean}} [options]
   */
  generate({ retry = false, at, given = "", controls = {}, shown = "", tries = 0, isRest = false } = {}) {
    if (this.run) return;
    const asked = { retry, at, given, controls, shown, tries, isRest };
    if (this.writing.afterComposition(() => this.generate(asked))) return;
    const { writing, tokens } = this;
    const { written, sheet } = writing;
    const end = written.text.length;
    if (retry && written.lastRunStart < 0) return;
    const start = at ?? (retry ? boundaryBefore(written.text, written.lastRunStart) : end);
    const prompt = written.text.slice(0, start) + given;
    const before = written.pieces;
    const kind = retry ? "retry" : given ? "alternative" : "generate";
    this.step = written.beginRun(start, end - start, sheet.selection, given + shown);
    sheet.replace(start, end - start, given + shown);
    this.shown = shown;
    this.run = new Run({
      records: (records) => this.read(records),
      stop: (id) => this.server.stop(id),
      silent: () => this.end({ reason: "error", message: this.run?.isStopping ? STOPPED_UNHEARD : LOST, isLost: !this.run?.isStopping }),
      tick: this.editor.progress,
    });
    this.progress = newProgress();
    this.next = null;
    this.isEnough = false;
    this.isRetry = retry;
    const run = written.runs;
    writing.latest = { run, prompt };
    if (tokens.isOn) controls = { logprobs: tokens.wantedLogprobs, ...controls };
    const length = Number(controls.max_new_tokens ?? state.controls.max_new_tokens) || null;
    const ending = tries || !length ? "" : endingOf();
    this.completions = new Completions({ prompt, isRest, ending, length });
    if (ending) controls = { ...controls, max_new_tokens: this.completions.wanted(MOST_TOKENS) };
    tokens.begin(prompt, length, String(controls.logprobs ?? state.controls.logprobs ?? "") !== "");
    emit("record", { event: "begin", sent: prompt, controls, kind, run, before, prompt: written.pieces, at: start });
    const all = { ...state.controls, ...controls, ...(retry ? { seed: null } : {}) };
    this.request = { session: sessions.current.id, prompt, controls: all, tries };
    pending.keep(this.request);
    pending.keepLength(shown.length);
    this.editor.begun();
    sheet.toEnd();
    this.editor.say(t(retry ? "editor.retrying" : "editor.generating"));
    this.trigger("generate", { prompt, retry, id: this.run.id, controls });
  }

  /**
   * Continue differently: cut the text at `at`, insert `given` as the model's words, and generate after it, for
   * `length` tokens if given. This is one undo step. `token` has the probabilities of `given` if that is a
   * token. A running request is stopped first.
   * @param {number} at @param {string} given @param {number | null} [length] @param {Token | null} [token]
   */
  goOnFrom(at, given, length = null, token = null) {
    if (this.run) {
      this.next = () => this.goOnFrom(at, given, length, token);
      this.stop();
      return;
    }
    given = given.replace(/\r\n?/g, "\n");
    if (token) this.tokens.know(this.writing.written.text.slice(0, at), given, token);
    const isRest = length !== null;
    this.generate({ at, given, isRest, controls: isRest ? { max_new_tokens: length } : {} });
  }

  stop() {
    if (!this.run || this.run.isStopping) return;
    pending.drop();
    this.progress.phase = "stopping";
    this.run.stop();
    this.editor.progress();
  }

  /** @param {unknown} log */
  receive(log) {
    this.run?.receive(log);
  }

  /** @param {any[]} records */
  read(records) {
    const { sheet } = this.writing;
    const follow = sheet.isAtEnd;
    let text = "";
    for (const record of records) {
      if (!this.run) break;
      if (Array.isArray(record.tokens)) record.tokens = readTokens(record.tokens);
      if (record.event === "text") {
        record.text = this.completions.add(record);
        if (record.index === 0) text += record.text;
      }
      if (record.last || record.event === "refused") {
        this.write(text);
        text = "";
      }
      this.handle(record);
    }
    this.write(text);
    if (this.run && !this.run.isStopping && this.completions.isEnough) {
      this.isEnough = true;
      this.stop();
    }
    if (follow) sheet.toEnd();
    this.editor.progress();
  }

  /** @param {string} text */
  write(text) {
    if (!text || !this.step || !this.run) return;
    const { sheet, written } = this.writing;
    const added = this.unshown(text);
    if (!added) return;
    const end = written.text.length;
    written.extendRun(this.step, added);
    sheet.replace(end, 0, added);
    if (this.request && !this.run.isStopping) {
      pending.keepLength(written.text.length - this.request.prompt.length);
    }
    this.editor.wrote();
  }

  /** What of the log's next words is not shown yet. Words that are not the shown ones replace them. @param {string} text */
  unshown(text) {
    const { shown, step } = this;
    if (shown.startsWith(text)) {
      this.shown = shown.slice(text.length);
      return "";
    }
    this.shown = "";
    if (text.startsWith(shown)) return text.slice(shown.length);
    const { sheet, written } = this.writing;
    if (step) written.shortenRun(step, shown.length);
    sheet.replace(written.text.length, shown.length, "");
    return text;
  }

  /** @param {any} record */
  handle(record) {
    this.tokens.handle(record);
    if (record.event !== "begin") emit("record", record);
    advance(this.progress, record);
    switch (record.event) {
      case "waiting":
        if (record.ahead > 0) this.editor.say(t("run.ahead", { count: record.ahead }));
        break;
      case "reconnecting":
        this.editor.say(t("run.reconnecting"));
        break;
      case "started":
        if (this.request && !this.run?.isStopping) {
          this.request.controls.seed = String(record.seed);
          pending.keep(this.request);
        }
        if (record.dropped_tokens && this.writing.latest) this.editor.dropped(this.writing.latest.prompt);
        break;
      case "marked":
        if (record.index === 0) this.marked.push(record.text.replace(/\r\n?/g, "\n").trim());
        break;
      case "finished":
        this.completions.at(record.index).end = record;
        this.cut(record.index);
        if (record.last) this.end({ ...(this.completions.at(0).end ?? record), total: record.total, rate: record.rate });
        break;
      case "refused":
        this.end({ reason: "error", ...record });
        break;
    }
  }

  /** Take away what follows the sentence with which a completion is to end. @param {number} index */
  cut(index) {
    const length = this.completions.surplus(index, this.isEnough);
    if (!length) return;
    this.completions.cut(index, length);
    const { sheet, written } = this.writing;
    if (index === 0 && this.step) {
      written.shortenRun(this.step, length);
      sheet.replace(written.text.length, length, "");
    }
    emit("record", { event: "cut", index, length });
  }

  /** @param {any} how the record of the first completion's end, or {reason: "error", message} */
  end(how) {
    const { step, next, writing } = this;
    this.run?.end();
    this.run = null;
    this.shown = "";
    if (!how.isLost) pending.drop();
    const failed = how.reason === "error";
    const { sheet, written } = writing;
    if (step && written.endRun(step, failed)) {
      const { text } = written;
      const { length } = sheet.area.value;
      if (sheet.area.value !== text) sheet.replace(step.at, length - step.at, text.slice(step.at));
    }
    this.tokens.end();
    if (!failed) this.editor.say(`${how.message} ${t("run.written", { count: how.total })}`);
    emit("record", { event: "end", message: how.message });
    const { completions } = this.progress;
    this.editor.ended({ ...how, failed }, failed ? [] : this.completions.endings({ ...how, completions }));
    sessions.save();
    if (!failed) next?.();
  }
}
