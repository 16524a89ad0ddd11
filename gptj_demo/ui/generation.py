"""How a request's events reach a visitor: in small batches, at a pace the page can show."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from gptj_demo.protocol import Finished, StreamEvent
from gptj_demo.sampling import CONTROLS, SamplingParams, make_params, read_written
from gptj_demo.worker import Stream, Worker

UPDATE_SECONDS = 0.05
UPDATES_A_SECOND = 200  # for all visitors together: about a tenth of a core
SIGN_OF_LIFE_SECONDS = 0.5


async def batches(worker: Worker, stream: Stream) -> AsyncIterator[list[StreamEvent]]:
    """The events of `stream`, those of one short while together, until the last.

    An empty batch comes when nothing has happened for half a second: whoever yields on it learns
    that way that the visitor has gone. Raises `RequestRefused`. Closing `stream` is the caller's.
    """
    while True:
        yield await stream.drain(timeout=SIGN_OF_LIFE_SECONDS)
        if stream.done:
            return
        visitors = worker.streams_running + worker.streams_waiting
        await asyncio.sleep(
            min(SIGN_OF_LIFE_SECONDS, max(UPDATE_SECONDS, visitors / UPDATES_A_SECOND))
        )


def text_of(events: list[StreamEvent]) -> str:
    """The text that a batch adds to the continuation."""
    return "".join(getattr(event, "text", "") for event in events)


def read_controls(values: Mapping[str, Any]) -> SamplingParams:
    """`SamplingParams` from what the page's controls hold; raises `InvalidControl`.

    Lists come as the lines of a text field, and numbers that may be left out as text too.
    """
    given = dict(values)
    for control in CONTROLS:
        value = given.get(control.name)
        if isinstance(value, str) and (control.is_list or control.kind == "optional_integer"):
            given[control.name] = read_written(control, value.split("\n"))
    return make_params(given)


class Rate:
    """Tokens a second, measured from the first token."""

    def __init__(self) -> None:
        self.tokens = 0
        self._first: float | None = None

    def add(self, tokens: int) -> None:
        """Count tokens that arrived just now."""
        if tokens and self._first is None:
            self._first = time.monotonic()
            self._tokens_at_first = tokens
        self.tokens += tokens

    @property
    def per_second(self) -> float | None:
        """None until there is something to measure."""
        if self._first is None or self.tokens == self._tokens_at_first:
            return None
        return (self.tokens - self._tokens_at_first) / max(1e-3, time.monotonic() - self._first)


def finished_of(events: list[StreamEvent]) -> Finished | None:
    """The last event of a stream, where the batch holds it."""
    last = events[-1] if events else None
    return last if isinstance(last, Finished) else None
