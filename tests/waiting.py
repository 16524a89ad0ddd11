"""Waiting for a condition, with a limit that a slow machine does not reach."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
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


async def eventually_async(condition: Callable[[], Value], seconds: float = PATIENCE) -> Value:
    """`eventually` for a test that runs in an event loop."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            pytest.fail(f"not true within {seconds:g} s: {condition}")
        await asyncio.sleep(LOOK_SECONDS)
    return value
