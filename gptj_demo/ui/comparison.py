"""A running comparison: as many cells of a grid at once as one visitor gets slots."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.client.pacing import GRID
from gptj_demo.protocol import (
    Drafting,
    GenerationRequest,
    Reconnecting,
    Started,
    StreamEvent,
    TokenEvent,
    Visitor,
    Waiting,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import Message, message
from gptj_demo.ui.generation import (
    describe_finished,
    finished_of,
    text_of,
)

_WORDS = re.compile(r"\w+(?:['\u2019]\w+)*")
QUEUED: dict[str, Any] = {"state": "queued", "text": "", "tokens": 0}
NOT_RUN: dict[str, Any] = {
    "prompt_tokens": None,
    "completion_tokens": 0,
    "seed": None,
    "mean_logprob": None,
    "distinct_words": None,
    "filtered_away": 0,
}


class Cells(Protocol):
    """The requests of a comparison, by number."""

    def __len__(self) -> int: ...

    def prompt(self, cell: int, /) -> str:
        """The prompt of a cell."""

    def params(self, cell: int, /) -> SamplingParams | Message:
        """The settings of a cell, or why it cannot run."""


class Comparison:
    """A running grid: as many of its cells at once as one visitor gets slots.

    `outcomes` has the result so far of each cell: `state` (`queued`, `waiting`, `running`, `done`),
    `text`, `tokens`, and once it is done `end`: the reason, and the cell's figures.

    If the queue is full, cells wait until it has room. The first cell is refused instead, unless
    the comparison `is_patient`. A patient one raises `RequestRefused` if requests are not accepted.
    """

    def __init__(
        self, worker: Worker, cells: Cells, visitor: Visitor, *, is_patient: bool = False
    ) -> None:
        self._worker = worker
        self._cells = cells
        self._visitor = visitor
        self._queued = deque(range(len(cells)))
        self._open: dict[int, Stream] = {}
        self._waiting: set[int] = set()  # open cells without a slot
        self._is_patient = is_patient
        self._has_begun = False
        self._is_stopped = False
        self.outcomes: list[dict[str, Any]] = [QUEUED] * len(cells)

    def stop(self) -> None:
        """End all cells; those that have not begun end at once."""
        self._is_stopped = True
        for stream in self._open.values():
            stream.cancel()

    async def updates(self) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Yield lists of updates until all cells have ended.

        Each update has `cell` and that cell's `outcomes`, but only the new part of the text. An
        empty list is a keep-alive. Leaving early ends all cells.
        """
        try:
            while True:
                records = await self._open_next()
                for index, stream in list(self._open.items()):
                    if stream.has_events or stream.over:
                        records += await self._read_events(index, stream)
                yield records
                if not self._open and not self._queued:
                    return
                await asyncio.sleep(self._pause)
        finally:
            for stream in self._open.values():
                await stream.aclose()

    @property
    def _pause(self) -> float:
        """Seconds between updates; longer if more requests of others run or wait."""
        everybody = self._worker.streams_running + self._worker.streams_waiting
        others = max(0, everybody - len(self._open))
        return GRID.pause(others)

    async def _open_next(self) -> list[dict[str, Any]]:
        """Submit cells for the free slots; the others wait here, not in the worker's queue."""
        if self._is_stopped:
            why = message("end.cancelled").described()
            stopped = [self._end(index, "cancelled", **why) for index in self._queued]
            self._queued.clear()
            return stopped
        records = []
        while self._queued and self._wanted < max(1, self._free):
            index = self._queued.popleft()
            params = self._cells.params(index)
            if isinstance(params, Message):
                records.append(self._end(index, "error", **params.described()))
                continue
            prompt = self._cells.prompt(index)
            continues = self._has_begun and not self._is_patient
            request = GenerationRequest(prompt, params, self._visitor, continues=continues)
            stream = self._worker.stream(request)
            self.outcomes[index] = {**QUEUED}
            self._open[index] = stream
            self._waiting.add(index)
            try:
                events = await stream.drain(0)
            except RequestRefused as refusal:
                self._leave(index)
                if refusal.kind == "queue_full" and (self._has_begun or self._is_patient):
                    self._queued.appendleft(index)  # until the queue has room
                    break
                if refusal.kind == "unavailable" and self._is_patient:
                    raise
                records.append(self._end(index, "error", **refusal.message.described()))
                await asyncio.sleep(0)  # all cells may be refused after they were tokenized
            else:
                self._has_begun = True
                records += self._records_of(index, events)
        return records

    @property
    def _wanted(self) -> int:
        """Slots that our cells wait for in the worker's queue."""
        return sum(self._open[index].request.params.candidates for index in self._waiting)

    @property
    def _free(self) -> int:
        return self._worker.slots_per_visitor - self._worker.streams_running

    async def _read_events(self, index: int, stream: Stream) -> list[dict[str, Any]]:
        try:
            return self._records_of(index, await stream.drain(0))
        except RequestRefused as refusal:
            self._leave(index)
            return [self._end(index, "error", **refusal.message.described())]

    def _records_of(self, index: int, events: list[StreamEvent]) -> list[dict[str, Any]]:
        outcome = self.outcomes[index]
        changed: dict[str, Any] = {}
        for event in events:
            match event:
                case Waiting():
                    changed |= {"state": "waiting", "ahead": event.ahead}
                case Reconnecting():
                    changed["state"] = "reconnecting"
                case Started():
                    self._waiting.discard(index)
                    changed |= {"state": "running", "dropped_tokens": event.dropped_tokens}
                case Drafting():
                    changed["drafted_tokens"] = event.tokens
                case TokenEvent():
                    if outcome["state"] == "reconnecting":
                        changed["state"] = "running"
                    changed["tokens"] = changed.get("tokens", outcome["tokens"]) + 1
                    if event.filtered_away:
                        outcome["filtered_away"] = outcome.get("filtered_away", 0) + 1
        outcome |= changed
        text = text_of(events)
        outcome["text"] += text
        if text:
            changed["text"] = text
        finished = finished_of(events)
        if finished is not None:
            self._leave(index)
            ended = self._end(index, finished.reason, **describe_finished(finished))
            return [{**changed, **ended}]
        return [{"cell": index, **changed}] if changed else []

    def _leave(self, index: int) -> None:
        del self._open[index]
        self._waiting.discard(index)

    def _end(self, index: int, reason: str, **figures: Any) -> dict[str, Any]:
        outcome = self.outcomes[index] = {**self.outcomes[index], "state": "done"}
        outcome["end"] = {
            **NOT_RUN,
            **figures,
            "reason": reason,
            "distinct_words": _round(distinct_words(outcome["text"])),
            "filtered_away": outcome.pop("filtered_away", 0),
        }
        return {"cell": index, "state": "done", "end": outcome["end"]}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def distinct_words(text: str) -> float | None:
    """Distinct words per word, ignoring case: 1 if no word repeats, None if there are no words."""
    words = [word.lower() for word in _WORDS.findall(text)]
    return len(set(words)) / len(words) if words else None
