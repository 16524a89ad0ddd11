"""Chooses the faster of two ways to do the same work, by their times so far."""

from __future__ import annotations

import math

_TRIED = 4  # uses of a trial
_FIRST_PERIOD, _LONGEST_PERIOD = 16, 512  # uses of the faster way between trials of the other one
_NEWEST = 0.25  # weight of a new time in the mean
_OUTLIER = 4.0  # a time counts at most as so many means


class Faster:
    """The mean times of two ways, 0 and 1.

    The slower way is tried again now and then, because both change with the load on the machine.
    The first trials follow soon: just after a start everything is slow.
    """

    def __init__(self) -> None:
        self._means = [math.inf, math.inf]  # infinite before the first time
        self._used: list[int] = []  # the ways of the last two uses
        self._trial: int | None = None  # the way that is being tried
        self._left = 0  # uses before the next decision
        self._period = _FIRST_PERIOD

    def choose(self) -> int:
        """The way to use now."""
        faster = int(self._means[1] < self._means[0])
        if self._left == 0:
            if self._trial is None or math.inf in self._means:
                self._trial, self._left = 1 - faster, _TRIED
            else:
                self._trial, self._left = None, self._period
                self._period = min(2 * self._period, _LONGEST_PERIOD)
        self._left -= 1
        way = faster if self._trial is None else self._trial
        self._used = [*self._used[-1:], way]
        return way

    def note(self, way: int, seconds: float) -> None:
        """Take account of the time of the way that was chosen last."""
        if self._used != [way, way]:
            return  # after a change caches and threads are not ready
        mean = self._means[way]
        if mean == math.inf:
            self._means[way] = seconds
        else:
            self._means[way] += _NEWEST * (min(seconds, _OUTLIER * mean) - mean)
