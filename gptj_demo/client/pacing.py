"""How often readers of streams receive updates.

An update costs the same for one token as for ten, so the updates of all readers together are
limited: with more readers each of them gets larger updates less often.
"""

from __future__ import annotations

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
