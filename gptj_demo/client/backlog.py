"""The events of a stream that its reader has not taken yet, with a limit in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from gptj_demo.protocol import PromptScored, TokenEvent

MAX_BYTES = 16 * 2**20
"""More than the events of 2,000 tokens with 20 alternatives each; a reader takes them every few
milliseconds."""

EVENT_BYTES = 300
ALTERNATIVE_BYTES = 150
"""Bytes that an event and an alternative take as Python objects."""


class Backlog:
    """A queue of events that knows its size in bytes, as an estimate."""

    def __init__(self) -> None:
        self.size = 0
        self._events: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_too_large(self) -> bool:
        """Whether the reader is so far behind that its stream should end."""
        return self.size > MAX_BYTES

    def extend(self, events: Iterable[Any]) -> None:
        """Add events at the end."""
        for event in events:
            self.append(event)

    def append(self, event: Any) -> None:
        """Add an event at the end."""
        self._events.append(event)
        self.size += _size(event)

    def popleft(self) -> Any:
        """Take the first event."""
        event = self._events.popleft()
        self.size -= _size(event)
        return event

    def clear(self) -> None:
        """Drop all events."""
        self._events.clear()
        self.size = 0


def _size(event: Any) -> int:
    if isinstance(event, TokenEvent):
        scored = [event.logprobs]
    elif isinstance(event, PromptScored):
        scored = list(event.logprobs)
    else:
        return EVENT_BYTES
    return EVENT_BYTES + sum(
        EVENT_BYTES + ALTERNATIVE_BYTES * len(one.alternatives) for one in scored if one is not None
    )
