"""Decides whether an engine that ended is started again, and when."""

from __future__ import annotations

from gptj_demo.texts import Message, message

RESTART_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds, by failures since the last ready


class Restarts:
    """The policy for one worker's engines; `failures` counts them since the last that was ready.

    Once an engine has been ready, engines are always started again. Before that, a failure may be a
    fault of the model's files or of the settings, which another start would repeat, so the second
    end of the same kind is final.
    """

    def __init__(self) -> None:
        self._was_ever_ready = False
        self.failures = 0
        self._ends: list[Message] = []  # of engines before the first one that was ready

    def delay_after(self, how: Message, *, was_ready: bool) -> float | None:
        """Seconds until the next start after an engine that ended as `how`; None to give up."""
        self._was_ever_ready |= was_ready
        self.failures = 0 if was_ready else self.failures + 1
        if not self._was_ever_ready:
            if how in self._ends:
                return None
            self._ends.append(how)
        return RESTART_DELAYS[min(self.failures, len(RESTART_DELAYS) - 1)]


def given_up(how: Message) -> Message:
    """Why the worker stops after two engines that ended as `how` before they were ready."""
    is_killed = how.code == "exit.killed"
    return message("status.killed_twice" if is_killed else "status.ended_twice", how=how)
