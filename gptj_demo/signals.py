"""SIGINT and SIGTERM, set explicitly in every process of ours.

The inherited handlers are not enough: a background job of a script starts with SIGINT ignored, and
the kernel drops every signal that process 1 of a container has no handler for.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


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


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, where the kernel is Linux.

    A process that is stopped or in a long call could not notice that itself. The kernel watches the
    thread that started this process, not the whole parent process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
