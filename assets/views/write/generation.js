// The model's turn: sends a request, inserts the words of its records into the text, and ends it.

import { boundaryBefore, head } from "../../core/characters.js";
import { emit } from "../../core/events.js";
import { messageText, t } from "../../core/i18n.js";
import { MOST_SENT, sentOf, withoutDropped } from "../../core/long_text.js";
import * as pending from "../../core/pending.js";
import { Run } from "../../core/run.js";
import { sessions } from "../../core/sessions.js";
import { state } from "../../core/state.js";
import { readTokens } from "../../core/tokens.js";
import { Completions } from "./completions.js";
import { ArrivingWords } from "./arriving_words.js";
import { writeLabel } from "./dialogue.js";
import { endingOf } from "./ending.js";
import { advance, newProgress } from "./progress.js";

const MOST_TOKENS = 2048; // of a request
const LOST = t("editor.lost");
const STOPPED_UNANSWERED = t("editor.no_answer");

/**
 * @typedef {{retry?: boolean, at?: number, given?: string, controls?: Controls, shown?: string, tries?: number,
 *            isRest?: boolean, rest?: string, typed?: string, fills?: boolean, ending?: string,
 *            memory?: Session["memory"]}} Options
 */

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
    this.words = /** @type {ArrivingWords | null} */ (null); // of the running or the last request
    this.completions = new Completions();
    this.isEnough = false; // whether the page stopped it at the end of a sentence
    this.asked = /** @type {Options} */ ({}); // the options of the running or the last request
    this.again = /** @type {Options} */ ({}); // the options that repeat the last request, or go on behind its words
    this.isCut = false; // whether only the end of the text was sent
    this.saidLost = false; // whether the page has said that a request is lost
    this.next = /** @type {(() => void) | null} */ (null); // called when the run has ended
    this.marked = /** @type {string[]} */ ([]); // sentences that the server's filter flagged, in the text or not
    this.request = /** @type {pending.PendingRequest | null} */ (null);
  }

  get isRunning() {
    return this.run !== null;
  }

  /** The text after the words that the model writes or has just written. */
  get rest() {
    return this.words?.rest ?? "";
  }

  /** Repeat an interrupted request if its text is unchanged; otherwise report that it is lost. */
  resume() {
    if (this.run) return;
    const { request, isLost } = pending.take(sessions.current.id, this.writing.written.text);
    if (isLost && !this.saidLost) this.editor.lost(t("editor.generation_lost"));
    this.saidLost = isLost;
    if (!request) return;
    const { prompt, ...asked } = request;
    this.generate({ at: prompt.length, ...asked });
  }

  /**
   * Cut the text at `at` and let the model write there; `rest`, the end of the text, stays and follows the words.
   * `retry` replaces the words that the model wrote last, and keeps what follows them. With
   * `fills` the words are chosen by how likely they make the rest. `given` is an existing beginning of the model's
   * words; `controls` overrides the panel for this request, `ending` the choice where the text ends. If a lost request
   * is made again, `shown` are its words in the text, `typed` the person's words between them and `rest`, `memory` what
   * it read besides the text, and `tries` says how often it was made before.
   * @param {Options} [options]
   */
  generate({ retry = false, at, given = "", controls = {}, shown = "", tries = 0, isRest = false, rest = "", typed = "", fills = false, ending = endingOf(), memory = sessions.current.memory } = {}) {
    if (this.run) return;
    const asked = { retry, at, given, controls, shown, tries, isRest, rest, typed, fills, ending, memory };
    if (this.writing.afterComposition(() => this.generate(asked))) return;
    const { writing, tokens } = this;
    if (!retry && !rest && at === undefined) writeLabel(writing, "model");
    const { written } = writing;
    const old = retry ? written.latestPlace : null; // the words that a retry replaces; what follows them stays
    if (retry && !old) return;
    if (old) {
      rest = written.text.slice(old.to);
      fills = writing.isFilledIn && rest.trim() !== "";
    }
    const after = typed + rest;
    const end = written.text.length - after.length;
    const start = at ?? (old ? boundaryBefore(written.text, old.from) : end);
    const prompt = written.text.slice(0, start) + given;
    this.asked = { ...asked, memory: undefined, at: asked.rest && start === end ? undefined : at }; // typed words can come before the rest
    const before = written.pieces;
    const kind = retry ? "retry" : given ? "alternative" : "generate";
    this.words = new ArrivingWords(writing, { start, length: end - start, given, shown, rest: after });
    this.run = new Run({
      records: (records) => this.read(records),
      stop: (id) => this.server.stop(id),
      silent: () => this.end({ reason: "error", message: this.run?.isStopping ? STOPPED_UNANSWERED : LOST, isLost: !this.run?.isStopping }),
      tick: this.editor.progress,
    });
    this.progress = newProgress();
    this.next = null;
    this.isEnough = false;
    const run = written.runs;
    writing.latest = { run, prompt, fills };
    if (tokens.isOn) controls = { logprobs: tokens.wantedLogprobs, ...controls };
    const length = Number(controls.max_new_tokens ?? state.controls.max_new_tokens) || null;
    if (fills || !length) ending = ""; // a draft is ranked by its whole text
    /** @type {Controls} */
    const all = { ...state.controls, ...controls, ...(retry ? { seed: null } : {}) };
    this.request = { session: sessions.current.id, prompt, controls: all, tries, rest, fills, ending, memory, ...(typed ? { typed } : {}) };
    this.completions = new Completions({ prompt, rest: after, isRest, ending, length });
    if (ending) controls = { ...controls, max_new_tokens: this.completions.wanted(MOST_TOKENS) };
    tokens.begin(prompt, length, String(controls.logprobs ?? state.controls.logprobs ?? "") !== "");
    const sent = sentOf(prompt, all.truncate);
    this.isCut = sent !== prompt;
    emit("record", { event: "begin", sent: prompt, isCut: this.isCut, controls, kind, run, before, at: start, ...this.words.around });
    pending.keep(this.request);
    pending.keepLength(shown.length);
    this.editor.begun();
    this.words.reveal();
    this.editor.say(t(retry ? "editor.retrying" : "editor.generating"));
    this.trigger("generate", { prompt: sent, retry, id: this.run.id, controls, ...(fills ? { fill: head(rest, MOST_SENT) } : {}), memory });
  }

  /** Repeat the last request, or go on behind its words, with the beginning of the text left out. */
  leaveOutBeginning() {
    this.generate({ ...this.again, controls: { ...this.again.controls, truncate: "left" } });
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
    const follow = this.words?.isInView;
    let text = "";
    for (const record of records) {
      if (!this.run) break;
      if (Array.isArray(record.tokens)) record.tokens = readTokens(record.tokens);
      if (record.event === "text") {
        record.text = this.completions.add(record);
        if (record.index === 0) text += record.text;
      } else if (record.event === "finished" || record.event === "refused") {
        this.write(text); // the end may cut these words
        text = "";
      }
      this.handle(record);
    }
    this.write(text);
    if (this.run && !this.run.isStopping && this.completions.isEnough) {
      this.isEnough = true;
      this.stop();
    }
    if (follow) this.words?.reveal();
    this.editor.progress();
  }

  /** @param {string} text */
  write(text) {
    if (!text || !this.words || !this.run || !this.words.add(text)) return;
    if (this.request && !this.run.isStopping) pending.keepLength(this.words.end - this.request.prompt.length);
    this.editor.wrote();
  }

  /** @param {any} record */
  handle(record) {
    if (this.isCut && record.event === "finished") {
      const { code, values } = withoutDropped(record);
      Object.assign(record, { code, values, message: messageText({ code, values }) });
    }
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
      case "left_out":
        if (this.writing.latest) this.editor.dropped(this.writing.latest.prompt);
        break;
      case "started":
        if (this.request && !this.run?.isStopping) {
          this.request.controls.seed = String(record.seed);
          pending.keep({ ...this.request, session: sessions.current.id });
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

  /** Remove what follows the last sentence of a completion. @param {number} index */
  cut(index) {
    const length = this.completions.surplus(index, this.isEnough);
    if (!length) return;
    this.completions.cut(index, length);
    if (index === 0) this.words?.shorten(length);
    emit("record", { event: "cut", index, length });
  }

  /** @param {any} how the record of the first completion's end, or {reason: "error", message} */
  end(how) {
    const { next } = this;
    this.run?.end();
    this.run = null;
    if (!how.isLost) pending.drop();
    const failed = how.reason === "error";
    const isRestored = this.words?.close(failed);
    this.again = isRestored && !this.asked.shown && !this.asked.typed ? this.asked : { rest: this.request?.rest };
    this.tokens.end();
    // a notice shows the error
    this.editor.say(failed ? "" : `${how.message} ${t("run.written", { count: how.total })}`);
    emit("record", { event: "end", message: how.message });
    const { completions } = this.progress;
    this.editor.ended({ ...how, failed }, failed ? [] : this.completions.endings({ ...how, completions }));
    sessions.save();
    if (!failed) next?.();
  }
}
