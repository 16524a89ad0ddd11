"""How often a page gets events: at once until the first words, then in small batches."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gptj_demo.client.pacing import PAGE
from gptj_demo.protocol import Drafting, Finished, Started, StreamEvent, TokenEvent, Waiting
from gptj_demo.texts import message
from gptj_demo.ui import generation

STARTED = Started(1, prompt_tokens=3)
TOKEN = TokenEvent(1, 5, " word")
END = Finished(1, "length", message("end.model"), "", prompt_tokens=3, completion_tokens=2, seed=0)


class ScriptedStream:
    """Gives one batch after the other."""

    def __init__(self, *script: list[StreamEvent]) -> None:
        self._script = list(script)

    async def drain(self, timeout: float) -> list[StreamEvent]:
        return self._script.pop(0)

    @property
    def done(self) -> bool:
        return not self._script


def pauses_after(
    monkeypatch: pytest.MonkeyPatch, *script: list[StreamEvent], streams: int = 1
) -> list[float]:
    """Seconds of the pause after each batch but the last; 0 where there is none."""
    pauses = [0.0] * len(script)
    batches_read = 0

    async def pause(seconds: float) -> None:
        pauses[batches_read - 1] = seconds

    async def read() -> None:
        nonlocal batches_read
        worker: Any = SimpleNamespace(streams_running=streams, streams_waiting=0)
        stream: Any = ScriptedStream(*script)
        async for _ in generation.batches(worker, stream):
            batches_read += 1

    monkeypatch.setattr(generation, "asyncio", SimpleNamespace(sleep=pause))
    asyncio.run(read())
    assert batches_read == len(script)
    return pauses[:-1]


def test_the_first_token_is_sent_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [Waiting(0)], [STARTED], [TOKEN], [TOKEN], [END]
    pauses = pauses_after(monkeypatch, *script)
    assert pauses == [0, 0, PAGE.shortest, PAGE.shortest]


def test_a_request_that_may_start_at_any_moment_is_polled_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = [Waiting(generation.NEXT - 1)], [], [], [STARTED], [TOKEN], [END]
    pauses = pauses_after(monkeypatch, *script, streams=100)
    assert pauses == [0, 0, 0, 0, 100 / PAGE.per_second]


def test_a_token_that_arrives_with_the_start_is_followed_by_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert pauses_after(monkeypatch, [Waiting(0), STARTED, TOKEN], [END]) == [PAGE.shortest]


@pytest.mark.parametrize("event", [Waiting(generation.NEXT), Drafting(7)])
def test_the_pause_after_frequent_events_grows_with_the_streams(
    event: StreamEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses = pauses_after(monkeypatch, [event], [END], streams=100)
    assert pauses == [100 / PAGE.per_second]
