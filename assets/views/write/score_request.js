// One request for the probabilities of a whole text, which can be stopped while it waits.

import { t } from "../../core/i18n.js";
import { newId } from "../../core/id.js";
import { sentOf } from "../../core/long_text.js";

const TICK_MS = 500;

/** @typedef {Record<string, (...given: any[]) => Promise<any>>} Server with `score` and `stop` */

export class ScoreRequest {
  /**
   * `waits` is called with the seconds since the request began, until it ends.
   * @param {Server} server @param {string} text @param {string | number} logprobs @param {(seconds: number) => void} waits
   */
  constructor(server, text, logprobs, waits) {
    this.server = server;
    this.id = newId();
    this.isStopped = false;
    const begun = Date.now();
    // A stop is repeated, because it may reach the server before the request.
    const timer = setInterval(() => {
      if (this.isStopped) this.askToStop();
      else waits(Math.round((Date.now() - begun) / 1000));
    }, TICK_MS);
    /** @type {(nothing: null) => void} */
    this.end = () => {};
    const stopped = new Promise((resolve) => (this.end = resolve));
    const scored = server
      .score({ id: this.id, text: sentOf(text, "left"), logprobs })
      .catch(() => ({ message: t("editor.no_answer") }))
      .finally(() => clearInterval(timer));
    /** @type {Promise<any>} the server's answer, null once the request was stopped */
    this.answer = Promise.race([scored, stopped]);
  }

  stop() {
    this.isStopped = true;
    this.askToStop();
    this.end(null);
  }

  askToStop() {
    this.server.stop(this.id).catch(() => {});
  }
}
