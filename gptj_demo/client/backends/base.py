"""The interface between the worker and a way to run engines."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, Protocol

from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineStatus,
    Heartbeat,
    ModelInfo,
    Refused,
    StepEvents,
    Submit,
    TokenizerReady,
    Visitor,
)
from gptj_demo.returned import Lapsed, Lost
from gptj_demo.texts import Message

EXIT_SECONDS = 1.0
"""How long `wait` lets an engine end by itself; it has nothing to save."""


EngineMessage = (
    EngineStatus | TokenizerReady | StepEvents | Heartbeat | Compiled | Refused | Lapsed | Lost
)


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A visitor's lease of a GPU that is lent for seconds at a time.

    `seconds_left` is what is left of the lease while it is awake.
    """

    state: Literal["asleep", "waking", "awake"]
    seconds_left: int | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """Whether an engine is running.

    `process_id` is None if the engine has ended or has no process on this machine. `engines` is the
    number of ready engines, None unless there can be several.
    """

    process_id: int | None
    engines: int | None = None


def write_the_same(one: ModelInfo, other: ModelInfo) -> bool:
    """Whether both models write the same text."""
    names = ("name", "revision", "adapters", "precision", "device", "forward_path")
    return all(getattr(one, name) == getattr(other, name) for name in names)


class Backend(Protocol):
    """Runs one engine after another, or several side by side.

    One thread calls `start`, `events` and `wait` in turn, any thread the others.
    """

    def start(self) -> None:
        """Start an engine; returns before it has loaded its model."""

    def send(self, message: Submit | Cancel, visitor: Visitor | None) -> None:
        """Send to the engine; does nothing if there is none, or it has died.

        `visitor` is who the request comes from.
        """

    def events(self) -> Generator[EngineMessage | None, None, None]:
        """The engine's messages, until it can send no more; yields None after about a second
        without one."""

    def wait(self) -> Message:
        """Wait until the engine has ended, and end it if it does not; returns how it ended."""

    def health(self) -> Health:
        """Whether an engine is there."""

    def lease(self, visitor: Visitor | None) -> LeaseState | None:
        """The visitor's lease of a GPU; None for a backend whose engine always runs."""

    def stop(self) -> None:
        """Have the engine end; returns at once, and `events` ends soon."""

    def kill(self) -> None:
        """Kill an engine that hangs; `events` ends soon."""
