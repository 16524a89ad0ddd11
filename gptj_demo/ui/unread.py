"""The results of a session of Gradio's that its visitor has not read yet."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gradio.server_messages import EventMessage

SESSION_BYTES = 2048
MESSAGE_BYTES = 1024
"""Approximate sizes of an empty session and of a message without output."""


@dataclass
class Budget:
    """The bytes that all sessions hold together."""

    held: int = 0


class Unread:
    """Messages for a session's readers, with the part of `asyncio.Queue` that Gradio uses.

    `size` is in bytes. While nobody waits for messages, their outputs are held as JSON: as Python
    objects they would take ten times as much.
    """

    def __init__(self, clock: Callable[[], float], budget: Budget) -> None:
        self.size = 0
        self._clock = clock
        self._budget = budget
        self._messages: deque[tuple[EventMessage, bytes | None]] = deque()
        self._arrived = asyncio.Event()
        self._readers = 0
        self._read_at = clock()

    def quiet_seconds(self, now: float) -> float:
        """Seconds since a reader last waited for a message; 0 while one does."""
        return 0.0 if self._readers else now - self._read_at

    def add(self, message: EventMessage, *, replaces: bool = False) -> None:
        """Add a message, which `replaces` the last one if that is of the same kind and event."""
        if replaces and self._messages:
            last = self._messages[-1][0]
            if type(last) is type(message) and last.event_id == message.event_id:
                self._hold(-_size(self._messages.pop()))
        output = getattr(message, "output", None)
        packed = None
        if output and not (self._readers and not self._messages):
            packed = json.dumps(output, default=str, separators=(",", ":")).encode()
            message.output = {}  # type: ignore[union-attr]
        self._messages.append((message, packed))
        self._hold(_size(self._messages[-1]))
        self._arrived.set()

    def put_nowait(self, message: EventMessage) -> None:
        """Add a message."""
        self.add(message)

    async def put(self, message: EventMessage) -> None:
        """Add a message unless one waits; used for keep-alives, one of which is enough."""
        if not self._messages:
            self.add(message)

    async def get(self) -> EventMessage:
        """The next message, once there is one."""
        self._readers += 1
        try:
            while not self._messages:
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._readers -= 1
            self._read_at = self._clock()
        return self._take()

    def clear(self) -> None:
        """Drop all messages."""
        self._messages.clear()
        self._hold(-self.size)

    def _hold(self, more: int) -> None:
        self.size += more
        self._budget.held += more

    def _take(self) -> EventMessage:
        message, packed = first = self._messages.popleft()
        self._hold(-_size(first))
        if packed is not None:
            message.output = json.loads(packed)  # type: ignore[union-attr]
        return message


def _size(held: tuple[EventMessage, bytes | None]) -> int:
    return MESSAGE_BYTES + len(held[1] or b"")
