"""Waiting for a condition, with a limit that a slow machine does not reach."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

import pytest

Value = TypeVar("Value")

PATIENCE = 120.0  # seconds; only a test that fails waits so long
LOOK_SECONDS = 0.02


def eventually(condition: Callable[[], Value], seconds: float = PATIENCE) -> Value:
    """The first true value of `condition`; the test fails if there is none within `seconds`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not true within {seconds:g} s: {condition}")
        time.sleep(LOOK_SECONDS)
    return value


def in_time(action: Callable[[], Value], seconds: float = PATIENCE) -> Value:
    """The result of what must not block; raises `TimeoutError` if it does."""
    result: Future[Value] = Future()

    def act() -> None:
        try:
            result.set_result(action())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=act, daemon=True).start()
    return result.result(seconds)


async def eventually_async(condition: Callable[[], Value], seconds: float = PATIENCE) -> Value:
    """`eventually` for a test that runs in an event loop."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not true within {seconds:g} s: {condition}")
        await asyncio.sleep(LOOK_SECONDS)
    return value


async def turns_during(work: Awaitable[Value]) -> tuple[int, Value]:
    """How many turns the event loop made while `work` ran, and the result of `work`."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    try:
        result = await work
    finally:
        counting.cancel()
    return turns, result
