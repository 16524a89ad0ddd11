// A running request: reads the log that the server appends to, one JSON record a line, stops it, and detects
// a silent server. Used by every view that runs requests.

import { translated } from "./i18n.js";
import { newId } from "./id.js";

const QUIET_MS = 11_000; // the server sends something every half second
const GRACE_MS = 5000;
const WATCH_MS = 1000;

export class Run {
  /**
   * `records` gets the new records of each change of the log, `stop` asks the server to stop, `silent` is
   * called once when the server has gone silent, `tick` once a second while it has not.
   * @param {{records: (records: any[]) => void, stop: (id: string) => Promise<unknown>,
   *          silent: () => void, tick?: () => void}} handlers
   */
  constructor({ records, stop, silent, tick = () => {} }) {
    this.id = newId();
    this.isStopping = false;
    this.begin = ""; // the first line of the log of this request
    this.isOver = false;
    this.handlers = { records, stop, silent, tick };
    this.read = 0; // characters of the log
    this.lastSign = Date.now();
    this.quietFrom = /** @type {number | null} */ (null); // when a check first found the server silent for too long
    this.watch = setInterval(() => this.look(), WATCH_MS);
  }

  /** Read the new records of the log; `value` is the whole log so far. @param {unknown} value */
  receive(value) {
    if (this.isOver) return;
    const log = typeof value === "string" ? value : "";
    this.lastSign = Date.now();
    this.quietFrom = null;
    // the log of an earlier request can still arrive after this one's: events overlap
    const begin = log.slice(0, log.indexOf("\n") + 1);
    if (!this.begin && begin && JSON.parse(begin).id === this.id) this.begin = begin;
    if (!this.begin || begin !== this.begin) return;
    if (log.length < this.read) this.read = 0; // a new log
    const end = log.lastIndexOf("\n") + 1; // the rest is an incomplete line
    const lines = log.slice(this.read, end).split("\n");
    this.read = end;
    this.handlers.records(lines.filter(Boolean).map((line) => translated(JSON.parse(line))));
  }

  get hasBegun() {
    return this.begin !== "";
  }

  stop() {
    this.isStopping = true;
    this.askToStop();
  }

  askToStop() {
    this.handlers.stop(this.id).catch(() => {});
  }

  // Repeat a stop, which may have reached the server before the request. After the page was frozen or the computer
  // slept, this check runs before events that the server sent meanwhile, so one check does not show that it is silent.
  look() {
    if (this.isStopping) this.askToStop();
    const now = Date.now();
    if (now - this.lastSign > QUIET_MS) this.quietFrom ??= now;
    if (this.quietFrom !== null && now - this.quietFrom >= GRACE_MS) this.handlers.silent();
    else this.handlers.tick();
  }

  /** Stop reading records. */
  end() {
    this.isOver = true;
    clearInterval(this.watch);
  }
}
