"""Requests for a small model with random weights, and helpers that read their events."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gptj_demo.client import Worker
from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    Started,
    StreamEvent,
    TokenEvent,
    Visitor,
)
from gptj_demo.sampling import SamplingParams
from tests.waiting import PATIENCE


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def request(prompt: str | tuple[int, ...] = "The lamp", **params: Any) -> GenerationRequest:
    values = {"max_new_tokens": 8, "seed": 1, **params}
    return GenerationRequest(prompt, SamplingParams(**values))


def endless() -> GenerationRequest:
    return request("x", max_new_tokens=2000, temperature=2.0, top_p=1.0, ignore_eos=True)


async def collect(worker: Worker, what: GenerationRequest) -> tuple[str, Finished]:
    text = ""
    async for event in worker.stream(what):
        if isinstance(event, TokenEvent | Finished):
            text += event.text
    assert isinstance(event, Finished)
    return text, event


async def started(stream: Any) -> None:
    async for event in stream:
        if isinstance(event, Started):
            return


@contextmanager
def paused(worker: Worker) -> Iterator[None]:
    """Stop the engine process inside the block: an `endless` text lasts a fifth of a second."""
    pid = worker.engine_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def everything(worker: Worker, what: GenerationRequest) -> list[StreamEvent]:
    return [event async for event in worker.stream(what)]


def ends(events: list[StreamEvent]) -> list[Finished]:
    return [event for event in events if isinstance(event, Finished)]


def tokens_of(events: list[StreamEvent], index: int) -> list[int]:
    return [e.token_id for e in events if isinstance(e, TokenEvent) and e.index == index]


def of(visitor: str, what: GenerationRequest | None = None) -> GenerationRequest:
    """A request of a visitor, who has an address of the same name."""
    return replace(what or endless(), visitor=Visitor(visitor, visitor))
