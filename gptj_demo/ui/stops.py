"""Requests of the page that the visitor can stop, by the id that the page chose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from gptj_demo.ui.generation import record


class Stops:
    """How each running request of a view is stopped."""

    def __init__(self) -> None:
        self._by_id: dict[str, Callable[[], object]] = {}

    def stop(self, request_id: Any) -> bool:
        """Stop a request; False if no request of this id can be stopped.

        Views wrap it in a function: Gradio sets an attribute of it, which a method cannot have.
        """
        stop = self._by_id.get(str(request_id))
        if stop is not None:
            stop()
        return stop is not None

    @contextmanager
    def stopped_by(self, request_id: str, stop: Callable[[], object]) -> Iterator[None]:
        """Within it, `stop` is called to stop the request."""
        self._by_id[request_id] = stop
        try:
            yield
        finally:
            self._by_id.pop(request_id, None)

    async def until_stopped(
        self, request_id: str, lines: AsyncGenerator[str, None]
    ) -> AsyncGenerator[str, None]:
        """The lines of a log until the request is stopped, then one that says whether it was."""
        stopped = asyncio.Event()
        with self.stopped_by(request_id, stopped.set):
            async with aclosing(lines):
                async for line in lines:
                    yield line
                    if stopped.is_set():
                        break
        yield record("end", stopped=stopped.is_set())
