"""Decides how many engines there should be. Pure: the caller gives the time, in seconds."""

from __future__ import annotations

import math
from collections import deque

from gptj_demo.settings import InvalidSettings

BUSY = 0.75
"""The target share of busy slots. Above it an engine is added, which takes a while to load. The
share of full engines is above 1, because more completions are submitted than there are slots."""
UP_SECONDS = 5.0
"""How long there must be too few engines before more are started."""
DOWN_SECONDS = 300.0
"""How long there must be too many before some are ended: loading them again takes minutes."""
MOST_ENGINES = 64


def engine_range(text: str) -> tuple[int, int]:
    """The smallest and the largest number of engines of `2` or `2..8`; raises `InvalidSettings`."""
    fewest, dots, most = text.partition("..")
    try:
        numbers = int(fewest), int(most if dots else fewest)
    except ValueError:
        numbers = 0, 0
    if not 1 <= numbers[0] <= numbers[1] <= MOST_ENGINES:
        raise InvalidSettings(
            f"engines is {text!r}; it must be a number from 1 to {MOST_ENGINES}, such as 2, or a "
            "range of them, such as 2..8."
        )
    return numbers


class Scaling:
    """Adapts the number of engines to the busy slots, between `fewest` and `most`."""

    def __init__(self, fewest: int, most: int) -> None:
        self.wanted = fewest
        self._fewest, self._most = fewest, most
        self._began: float | None = None
        self._needs: deque[tuple[float, int]] = deque()  # the latest needs, with their times

    def update(self, busy: int, slots: int, now: float) -> int:
        """The number of engines wanted, where `busy` slots are held and an engine has `slots`."""
        need = math.ceil(busy / (BUSY * slots)) if slots else self.wanted
        began = self._began = now if self._began is None else self._began
        self._needs.append((now, max(self._fewest, min(need, self._most))))
        while self._needs[0][0] < now - DOWN_SECONDS:
            self._needs.popleft()
        if now >= began + UP_SECONDS:
            lately = (need for time, need in self._needs if time >= now - UP_SECONDS)
            self.wanted = max(self.wanted, min(lately))
        if now >= began + DOWN_SECONDS:
            self.wanted = min(self.wanted, max(need for _, need in self._needs))
        return self.wanted
