"""What the worker needs of a way to run engines."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineStatus,
    Heartbeat,
    Refused,
    StepEvents,
    Submit,
    TokenizerReady,
)
from gptj_demo.texts import Message

EngineMessage = EngineStatus | TokenizerReady | StepEvents | Heartbeat | Compiled | Refused

EXIT_SECONDS = 1.0
"""What `wait` gives an engine to end by itself; it has nothing to save."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an engine is there: its process id, None where it has none or has ended."""

    process_id: int | None


class Backend(Protocol):
    """Runs one engine after another.

    One thread calls `start`, `events` and `wait` in turn, any thread the others.
    """

    def start(self) -> None:
        """Start an engine; returns before it has loaded its model."""

    def send(self, message: Submit | Cancel) -> None:
        """Send to the engine; does nothing if there is none, or it has died."""

    def events(self) -> Generator[EngineMessage | None, None, None]:
        """What the engine sends, until nothing more can come from it; None after about a second
        without anything."""

    def wait(self) -> Message:
        """Wait until the engine has ended, and end it if it does not; returns how it ended."""

    def health(self) -> Health:
        """Whether an engine is there."""

    def stop(self) -> None:
        """Have the engine end; returns at once, and `events` ends soon."""

    def kill(self) -> None:
        """End an engine that does nothing any more, without its help; `events` ends soon."""
