"""How often readers of streams receive updates.

An update costs the same for one token as for ten, so the updates of all readers together are
limited: with more readers each of them gets larger updates less often.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of one kind of reader.

    `shortest` is the least pause between two updates and `sign_of_life` the longest, in seconds;
    `per_second` is the number of updates for all readers together.
    """

    shortest: float
    per_second: float
    sign_of_life: float

    def pause(self, readers: int) -> float:
        """Seconds between two updates of one reader."""
        return min(self.sign_of_life, max(self.shortest, readers / self.per_second))


PAGE = Pace(shortest=0.05, per_second=200, sign_of_life=0.5)
"""200 updates take about a tenth of a core. A keep-alive detects that the reader has left."""

GRID = Pace(shortest=0.08, per_second=200, sign_of_life=0.5)
"""The cells of a comparison share one update."""

API = Pace(shortest=0.0, per_second=200, sign_of_life=5.0)
"""Each token is sent as its own event unless tokens arrive faster than this."""


class Repeats:
    """The pace of updates that each repeat the whole answer: the longer it is, the rarer they are.

    Without changes an update follows after five seconds: only then is it noticed that the reader
    has left.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes = self._due = 0
        self._sent = clock()

    def is_due(self, changes: int) -> bool:
        """Whether to send an update now, after so many further changes."""
        self._changes += changes
        now = self._clock()
        if self._changes < self._due and now - self._sent < API.sign_of_life:
            return False
        self._due = self._changes + max(1, self._changes // 16)
        self._sent = now
        return True
