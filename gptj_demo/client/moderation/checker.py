"""Runs a filter in a thread of its own, with bounded waits, and fails closed."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from gptj_demo.client.moderation.verdict import FAILED, Filter, FilterError, Verdict

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0  # the longest wait for a verdict once the filter runs
PAUSE_SECONDS = 5.0  # after a failure; all texts count as failed meanwhile
MAX_BATCH = 32

_Question = tuple[str, "Future[Verdict]"]


class Checker:
    """Asks a filter about texts that come from any number of event loops.

    `seconds` bounds the wait for a verdict, and `pause` follows a failure.
    """

    def __init__(
        self, filter: Filter, seconds: float = CHECK_SECONDS, pause: float = PAUSE_SECONDS
    ) -> None:
        self._filter = filter
        self._seconds = seconds
        self._pause = pause
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._started: Future[None] = Future()  # done once the filter runs, or failed to start
        self._down_until = 0.0
        self._lock = threading.Lock()
        self._open = 0  # texts without a verdict
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="filter", daemon=True)

    def start(self) -> None:
        """Start the filter; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the filter."""
        self._questions.put(None)
        if self._thread.ident is not None:
            self._thread.join(self._seconds)

    @property
    def is_busy(self) -> bool:
        """Whether a text waits for its verdict."""
        return self._open > 0

    async def judge(self, text: str) -> Verdict:
        """The filter's verdict, `FAILED` if there is none in time. Never raises an error."""
        with self._lock:
            self._open += 1
        try:
            return await self._judge(text)
        finally:
            with self._lock:
                self._open -= 1

    async def _judge(self, text: str) -> Verdict:
        answer: Future[Verdict] = Future()
        if not self._started.done():
            await asyncio.wait([asyncio.wrap_future(self._started)])
        self._questions.put((text, answer))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), self._seconds)
        except (TimeoutError, asyncio.TimeoutError):
            return FAILED

    def _work(self) -> None:
        try:
            self._filter.start()
        except Exception as error:
            self._fail(error)
        self._started.set_result(None)
        while (batch := self._take()) is not None:
            self._answer(batch)
        self._filter.stop()

    def _take(self) -> list[_Question] | None:
        """The questions that wait, at least one; None once the filter is to end."""
        batch: list[_Question] = []
        if self._is_stopping:
            return None
        while not batch or (not self._questions.empty() and len(batch) < MAX_BATCH):
            question = self._questions.get()
            if question is None:
                self._is_stopping = True
                return batch or None
            if question[1].set_running_or_notify_cancel():  # not given up meanwhile
                batch.append(question)
        return batch

    def _answer(self, batch: Sequence[_Question]) -> None:
        verdicts = [FAILED] * len(batch)
        if time.monotonic() >= self._down_until:
            try:
                verdicts = self._filter.check([text for text, _ in batch])
            except Exception as error:
                self._fail(error)
        for (_, answer), verdict in zip(batch, verdicts, strict=True):
            answer.set_result(verdict)

    def _fail(self, error: Exception) -> None:
        self._down_until = time.monotonic() + self._pause
        # messages of other errors can quote the text, or an address with a password
        why = str(error) if isinstance(error, FilterError) else type(error).__name__
        logger.error("the filter failed: %s; until it works, no sentence passes", why)
