"""How long a request waited, read and wrote, under llama.cpp's field names."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from gptj_demo.protocol import Drafting, Finished, Started, StreamEvent, TokenEvent


class Timings:
    """The times of one request, from its creation on; `clock` returns seconds.

    A request with several prompts waits until its first prompt starts, and reads until its first
    token is generated.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made = clock()
        self._started: float | None = None
        self._first: float | None = None
        self._last: float | None = None
        self._drafted: Counter[str] = Counter()  # by drafter
        self._accepted: Counter[str] = Counter()

    def note(self, event: StreamEvent) -> None:
        """Take note of an event that has just arrived."""
        if isinstance(event, Started):
            self._started = self._started or self._clock()
        elif isinstance(event, TokenEvent | Drafting | Finished):
            self._last = self._clock()
            self._first = self._first or self._last
        if isinstance(event, Finished):
            for drafter, drafted, accepted in event.drafts:
                self._drafted[drafter] += drafted
                self._accepted[drafter] += accepted

    def json(self, read: int, cached: int, written: int) -> dict[str, Any]:
        """The times as JSON; `read` tokens of the prompts include the `cached` ones.

        If tokens were drafted, it has the numbers of drafted and accepted tokens, in all and by
        drafter.
        """
        now = self._clock()
        started = now if self._started is None else self._started
        first = now if self._first is None else self._first
        last = now if self._last is None else self._last
        drafts = {
            **_drafts(self._drafted.total(), self._accepted.total()),
            "drafters": {
                name: _drafts(drafted, self._accepted[name])
                for name, drafted in sorted(self._drafted.items())
            },
        }
        return {
            "queued_ms": _ms(started - self._made),
            "cache_n": cached,
            **_speed("prompt", read - cached, first - started),
            **_speed("predicted", written, last - first),
            **(drafts if self._drafted else {}),
        }


def _speed(name: str, tokens: int, seconds: float) -> dict[str, Any]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": _ms(seconds),
        f"{name}_per_token_ms": _ms(seconds / tokens) if tokens else None,
        f"{name}_per_second": round(tokens / seconds, 3) if seconds > 0 else None,
    }


def _drafts(drafted: int, accepted: int) -> dict[str, int]:
    return {"draft_n": drafted, "draft_n_accepted": accepted}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
