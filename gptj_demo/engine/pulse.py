"""The heartbeat of the engine process: a thread of its own sends it once a second."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from gptj_demo.protocol import Heartbeat

SECONDS = 1.0


class Pulse:
    """Sends `Heartbeat`s from its start until the process ends or the connection is closed."""

    def __init__(self, send: Callable[[object], None]) -> None:
        self._send = send
        self._step_began: float | None = None

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def begin_step(self) -> None:
        """Note that a step begins."""
        self._step_began = time.monotonic()

    def end_step(self) -> None:
        """Note that the step has ended."""
        self._step_began = None

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # the web process is gone, and this one ends soon
            while True:
                began = self._step_began
                self._send(Heartbeat(None if began is None else time.monotonic() - began))
                time.sleep(SECONDS)
