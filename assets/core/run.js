// A request under way: reads the log that the server appends to, one JSON record a line; asks it to stop;
// and notices a server that has gone silent. Used by every view that runs requests.

import { translated } from "./i18n.js";
import { newId } from "./id.js";

const SILENT_MS = 15_000; // the server sends something every half second
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
    this.hasBegun = false;
    this.isOver = false;
    this.handlers = { records, stop, silent, tick };
    this.read = 0; // characters of the log
    this.lastSign = Date.now();
    this.watch = setInterval(() => this.look(), WATCH_MS);
  }

  /** The whole log as it now is. @param {unknown} value */
  receive(value) {
    if (this.isOver) return;
    const log = typeof value === "string" ? value : "";
    if (log.length < this.read) this.read = 0; // another log has taken its place
    this.lastSign = Date.now();
    if (!this.hasBegun) {
      const [begin, rest] = log.split("\n", 2);
      if (rest === undefined || JSON.parse(begin).id !== this.id) return; // none yet, or an earlier request's
      this.hasBegun = true;
      this.read = 0;
    }
    const end = log.lastIndexOf("\n") + 1; // the line behind it is not complete
    const lines = log.slice(this.read, end).split("\n");
    this.read = end;
    this.handlers.records(lines.filter(Boolean).map((line) => translated(JSON.parse(line))));
  }

  stop() {
    this.isStopping = true;
    this.askToStop();
  }

  askToStop() {
    this.handlers.stop(this.id).catch(() => {});
  }

  // Ask again for a stop, which may have come before the request.
  look() {
    if (this.isStopping) this.askToStop();
    if (Date.now() - this.lastSign > SILENT_MS) this.handlers.silent();
    else this.handlers.tick();
  }

  /** No record is read after this. */
  end() {
    this.isOver = true;
    clearInterval(this.watch);
  }
}
