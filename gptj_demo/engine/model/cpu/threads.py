"""Threads that share a compiled kernel's work, and sleep when there is none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Threads:
    """Divides a kernel's work among threads; a thread that is free takes the next part.

    The calling thread works too, and does everything if the others find no free core.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.pool = ThreadPoolExecutor(max(1, count - 1), "engine")

    def run(self, kernel: Callable[..., None], total: int, part: int, *arguments: Any) -> None:
        """kernel(*arguments, begin, end) for all of range(total), about `part` at a time."""
        parts = iter(range(0, total, part))

        def work() -> None:
            for begin in parts:
                kernel(*arguments, begin, min(begin + part, total))

        helpers = [self.pool.submit(work) for _ in range(min(self.count, -(-total // part)) - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():  # it has begun
                helper.result()
