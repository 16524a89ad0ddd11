import assert from "node:assert/strict";
import { test } from "node:test";
import { Run } from "../../assets/core/run.js";

/** A run, and the calls of its handlers. */
function begin(t) {
  t.mock.timers.enable({ apis: ["setInterval", "Date"] });
  const calls = { records: [], stopped: [], silent: 0, ticks: 0 };
  const run = new Run({
    records: (records) => calls.records.push(...records),
    stop: async (id) => calls.stopped.push(id),
    silent: () => (calls.silent += 1),
    tick: () => (calls.ticks += 1),
  });
  t.after(() => run.end());
  return { run, calls };
}

/** Ticks second by second: within one tick every timer gets the end of the tick as the time. */
function wait(t, seconds) {
  for (let second = 0; second < seconds; second += 1) t.mock.timers.tick(1000);
}

const line = (record) => `${JSON.stringify(record)}\n`;

test("records are read once from a log that arrives in parts", (t) => {
  const { run, calls } = begin(t);
  const log = line({ event: "begin", id: run.id }) + line({ event: "text", text: "a\nb" }) + "\n" + line({ event: "end" });
  for (let length = 0; length <= log.length; length += 1) run.receive(log.slice(0, length));
  run.receive(log);
  assert.deepEqual(calls.records, [{ event: "begin", id: run.id }, { event: "text", text: "a\nb" }, { event: "end" }]);
});

test("another request's log is not read", (t) => {
  const { run, calls } = begin(t);
  const old = line({ event: "begin", id: "another" }) + line({ event: "text", text: "not mine" }).repeat(9);
  run.receive(old);
  run.receive(null);
  run.receive(line({ event: "begin", id: run.id }) + line({ event: "text", text: "mine" }));
  assert.deepEqual(calls.records.map(({ text }) => text), [undefined, "mine"]);
});

test("the end of an earlier request that arrives late does not end this one", (t) => {
  const { run, calls } = begin(t);
  const mine = line({ event: "begin", id: run.id });
  run.receive(mine);
  run.receive(line({ event: "begin", id: "earlier" }) + line({ event: "text", text: "its" }).repeat(9) + line({ event: "end" }));
  run.receive(mine + line({ event: "text", text: "mine" }));
  assert.deepEqual(calls.records.map(({ event, text }) => text ?? event), ["begin", "mine"]);
});

test("nothing is read after the end", (t) => {
  const { run, calls } = begin(t);
  run.receive(line({ event: "begin", id: run.id }));
  run.end();
  run.receive(line({ event: "begin", id: run.id }) + line({ event: "text" }));
  assert.equal(calls.records.length, 1);
});

test("a stop is asked for until the run ends", (t) => {
  const { run, calls } = begin(t);
  run.stop();
  t.mock.timers.tick(2000);
  assert.deepEqual(calls.stopped, [run.id, run.id, run.id]);
  run.end();
  t.mock.timers.tick(5000);
  assert.equal(calls.stopped.length, 3);
});

test("a server that sends nothing for 17 seconds is reported as silent", (t) => {
  const { run, calls } = begin(t);
  wait(t, 14);
  run.receive("");
  wait(t, 16);
  assert.equal(calls.silent, 0);
  assert.equal(calls.ticks, 30);
  wait(t, 1);
  assert.equal(calls.silent, 1);
});

test("a page that was frozen reads the records sent meanwhile", (t) => {
  const { run, calls } = begin(t);
  const log = line({ event: "begin", id: run.id });
  run.receive(log);
  t.mock.timers.tick(3_600_000); // the timers are due before the events
  assert.equal(calls.silent, 0);
  run.receive(log + line({ event: "text", text: "meanwhile" }));
  wait(t, 16);
  assert.equal(calls.silent, 0);
  assert.deepEqual(calls.records.map(({ text }) => text), [undefined, "meanwhile"]);
});

test("a server that stays silent after the page was frozen is reported after 5 seconds", (t) => {
  const { calls } = begin(t);
  t.mock.timers.tick(3_600_000);
  wait(t, 5);
  assert.equal(calls.silent, 1);
});
