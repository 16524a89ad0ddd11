"""SIGINT and SIGTERM, set explicitly in every process of ours.

What a process inherits is not enough: a background job of a script starts with SIGINT ignored, and
the kernel drops every signal that process 1 of a container has no handler for.
"""

from __future__ import annotations

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Raised in the main thread by SIGTERM, as `KeyboardInterrupt` is by SIGINT."""


def raise_on_stop_signals() -> None:
    """Raise `KeyboardInterrupt` on SIGINT and `Terminated` on SIGTERM, in the main thread."""
    # Python's own handler, because asyncio.run replaces only that one by a cancellation
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)


def ignore_stop_signals() -> None:
    """Ignore both: in the engine process, and while a process that stops cleans up."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
