"""Running a comparison, with a worker that answers from a script."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gptj_demo.client import RequestRefused
from gptj_demo.client.pacing import GRID
from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    Started,
    StreamEvent,
    TokenEvent,
    Visitor,
    Waiting,
)
from gptj_demo.texts import message
from gptj_demo.ui.comparison import Comparison, distinct_words
from tests.grids import grid_of
from tests.waiting import turns_during

SOMEBODY = Visitor("somebody", "somewhere")


def test_distinct_words_ignore_case_and_punctuation() -> None:
    assert distinct_words("The fox, the FOX and the hen's egg") == 5 / 8
    assert distinct_words("... !") is None


class ScriptedStream:
    """A request that a scripted worker answers at once, or refuses."""

    def __init__(self, worker: ScriptedWorker, request: GenerationRequest) -> None:
        self.worker, self.request = worker, request
        self.events: list[StreamEvent] = []
        self.is_open = self.is_over = False

    @property
    def has_events(self) -> bool:
        return bool(self.events) or self in self.worker.line

    @property
    def over(self) -> bool:
        return self.is_over

    async def drain(self, timeout: float | None = None) -> list[StreamEvent]:
        if not self.is_open:
            self.is_open = True
            if self.worker.refuses > 0:
                self.worker.refuses -= 1
                raise RequestRefused("queue_full", message("refused.queue_full", count=64))
            self.worker.line.append(self)
        if self in self.worker.line:
            if len(self.worker.open) == self.worker.slots_per_visitor:
                return [Waiting(0)]
            self.worker.line.remove(self)
            self.worker.open.append(self)
            return [Started(1, 1)]
        events, self.events = self.events, []
        return events

    def finish(self, reason: str = "length") -> None:
        seed = self.request.params.seed or 0
        self.events += [TokenEvent(1, 5, f" {self.request.params.temperature:g}")]
        self.events += [Finished(1, reason, message("end.model"), "", 1, 1, seed, sum_logprob=-2.0)]  # type: ignore[arg-type]
        self._leave()

    def _leave(self) -> None:
        self.is_over = True
        (self.worker.open if self in self.worker.open else self.worker.line).remove(self)

    def cancel(self) -> None:
        if not self.is_over:
            self.finish("cancelled")

    async def aclose(self) -> None:
        if not self.is_over:
            self._leave()


class ScriptedWorker:
    """A worker with three slots; the test ends the open streams."""

    slots_per_visitor = 3
    streams_waiting = 0

    def __init__(self) -> None:
        self.open: list[ScriptedStream] = []  # those that hold a slot
        self.line: list[ScriptedStream] = []
        self.refuses = 0

    @property
    def streams_running(self) -> int:
        return len(self.open)

    def stream(self, request: GenerationRequest) -> ScriptedStream:
        return ScriptedStream(self, request)


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptj_demo.ui.comparison.GRID", replace(GRID, shortest=0.0))


SEVEN = ("temperature", "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7")


def comparison(worker: ScriptedWorker, **grid: Any) -> Comparison:
    return Comparison(worker, grid_of(**({"rows": SEVEN} | grid)), SOMEBODY)  # type: ignore[arg-type]


def test_cells_use_the_visitors_slots_and_one_place_in_the_queue() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        async for _ in compared.updates():
            assert {stream.request.visitor for stream in worker.open} <= {SOMEBODY}
            assert len(worker.line) <= 1  # the other places are for other visitors
            for stream in list(worker.open):
                stream.finish()
        assert [one["text"] for one in compared.outcomes] == [f" 0.{i}" for i in range(1, 8)]
        assert {one["end"]["mean_logprob"] for one in compared.outcomes} == {-2.0}

    asyncio.run(run())


def test_the_updates_add_up_to_the_final_state() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        texts, ends = dict.fromkeys(range(7), ""), {}
        async for records in compared.updates():
            for record in records:
                texts[record["cell"]] += record.get("text", "")
                if "end" in record:
                    ends[record["cell"]] = record["end"]
            for stream in list(worker.open)[:1]:
                stream.finish()
        assert list(texts.values()) == [one["text"] for one in compared.outcomes]
        assert [ends[i] for i in range(7)] == [one["end"] for one in compared.outcomes]

    asyncio.run(run())


def test_stop_ends_running_and_queued_cells() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker)
        async for _ in compared.updates():
            compared.stop()
        assert {one["end"]["reason"] for one in compared.outcomes} == {"cancelled"}
        assert worker.open + worker.line == []

    asyncio.run(run())


def test_closing_the_page_cancels_all_cells() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        updates = comparison(worker).updates()
        await anext(updates)
        assert worker.open
        await updates.aclose()
        assert worker.open + worker.line == []

    asyncio.run(run())


def test_a_full_queue_refuses_the_first_cell_and_delays_later_ones() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        worker.refuses = 1
        compared = comparison(worker)
        async for _ in compared.updates():
            if len(worker.open) == 3:
                worker.refuses = 5  # others have filled the queue
            for stream in list(worker.open):
                stream.finish()
        ends = [one["end"] for one in compared.outcomes]
        assert ends[0]["message"].startswith("64 requests are waiting already")
        assert [end["reason"] for end in ends] == ["error"] + ["length"] * 6

    asyncio.run(run())


def test_a_refused_cell_shows_its_message_and_the_other_cells_run() -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        compared = comparison(worker, rows=("min_new_tokens", "1, 500"))
        async for _ in compared.updates():
            for stream in list(worker.open):
                stream.finish()
        ends = [one["end"] for one in compared.outcomes]
        assert [end["reason"] for end in ends] == ["length", "error"]
        assert "which is more than Length" in ends[1]["message"]

    asyncio.run(run())


def test_the_event_loop_runs_between_refused_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: ScriptedStream, timeout: float | None = None) -> None:
        self.is_over = True
        raise RequestRefused("too_long", message("refused.too_long", tokens=9, context=8, count=1))

    async def run() -> int:
        updates = comparison(ScriptedWorker()).updates()
        turns, records = await turns_during(anext(updates))
        assert [one["end"]["reason"] for one in records] == ["error"] * 7
        return turns

    monkeypatch.setattr(ScriptedStream, "drain", refuse)
    assert asyncio.run(run()) >= 7
