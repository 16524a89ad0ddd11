"""Chooses the faster of two ways to do the same work, by their times so far."""

from __future__ import annotations

_CYCLE = 512  # uses after which the slower way is tried again
_TRIED = 4  # uses in sequence
_NEWEST = 0.25  # weight of a new time in the mean
_OUTLIER = 4.0  # a time counts at most as so many means


class Faster:
    """The mean times of two ways, 0 and 1. The slower one is tried again now and then, because both
    change with the load on the machine."""

    def __init__(self) -> None:
        self._means = [0.0, 0.0]  # 0 before the first time
        self._uses = 0

    def choose(self) -> int:
        """The way to use now."""
        place = self._uses % _CYCLE
        self._uses += 1
        if self._uses <= 2 * _TRIED:
            return int(self._uses > _TRIED)
        is_second = self._means[1] < self._means[0]
        return int(is_second != (place < _TRIED))

    def note(self, way: int, seconds: float) -> None:
        """Take account of the time of the way that was chosen last."""
        if (self._uses - 1) % _CYCLE in (0, _TRIED):
            return  # after a change caches and threads are not ready
        mean = self._means[way]
        change = _NEWEST * (min(seconds, _OUTLIER * mean) - mean)
        self._means[way] = mean + change if mean else seconds
