"""Distinguishes a hung engine from a busy one. Pure: the caller gives the time, in seconds."""

from __future__ import annotations

from gptj_demo.protocol import EngineStatus, Heartbeat

SILENCE = 60.0
"""Seconds without any message after which an engine that was ready counts as hung."""
SILENCE_WHILE_LOADING = 600.0
"""The limit before that: reading large files and compiling can block the thread that reports.

Once an engine has been ready, the limit for the next one is `TIMES_THE_LONGEST` times the longest
silence while that engine loaded, but at least `SILENCE`.
"""
STEP = 300.0
"""Seconds that a step may take, or `TIMES_THE_LONGEST` times the longest step if that is more."""
TIMES_THE_LONGEST = 20.0


class Watch:
    """The signs of life of one engine; `before` is the watch of the engine before it.

    `is_ready` says whether the engine has been ready.
    """

    def __init__(self, now: float, before: Watch | None = None) -> None:
        self._last = now
        self.is_ready = False
        self._while_loading: float = (
            SILENCE_WHILE_LOADING if before is None else before._while_loading
        )
        self._longest_loading = 0.0  # silence so far
        self._longest_step = 0.0
        self._step = 0.0  # seconds that the present step had taken at the last heartbeat

    def note(self, message: object, now: float) -> None:
        """Take note of a message from the engine."""
        if not self.is_ready:
            self._longest_loading = max(self._longest_loading, now - self._last)
        self._last = now
        if isinstance(message, EngineStatus):
            if message.state == "ready":
                self.is_ready = True
                most = max(SILENCE, TIMES_THE_LONGEST * self._longest_loading)
                self._while_loading = min(SILENCE_WHILE_LOADING, most)
        elif isinstance(message, Heartbeat):
            step = message.step_seconds or 0.0
            if step < self._step:  # that step has ended
                self._longest_step = max(self._longest_step, self._step)
            self._step = step

    def hung_for(self, now: float) -> float | None:
        """Seconds for which the engine has done nothing; None while it does not count as hung."""
        silence = now - self._last
        if silence > (SILENCE if self.is_ready else self._while_loading):
            return silence
        if self._step > max(STEP, TIMES_THE_LONGEST * self._longest_step):
            return self._step
        return None
