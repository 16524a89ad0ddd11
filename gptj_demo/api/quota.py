"""The tokens that a caller may use in a minute, counted here or in a store that servers share."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from gptj_demo.settings import InvalidSettings, Settings

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 0.25
"""Time limit for the store's response, which blocks the event loop."""
PAUSE_SECONDS = 10.0
"""How long this process counts alone after a failure of the store, before it tries again."""
MARGIN_SECONDS = 1.0
"""No tokens are given back so shortly before a minute ends: they could enter the next one."""


def make_storage(settings: Settings) -> Storage:
    """The store of the settings, else one in this process; raises `InvalidSettings`."""
    if settings.limits_storage is None:
        return MemoryStorage()
    try:
        storage = storage_from_string(
            settings.limits_storage.get_secret_value(),
            wrap_exceptions=True,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
        )
        if not isinstance(storage, Storage):
            raise TypeError("this store is for asyncio")
        return storage
    except (ConfigurationError, ImportError, TypeError, ValueError):
        raise InvalidSettings(
            "limits_storage cannot be used; it must be the address of a Redis, such as "
            "redis://localhost:6379/0, and the package redis must be installed: pip install -r "
            "requirements-fleet.txt."
        ) from None


class Reservation(NamedTuple):
    """Tokens that a running request can use at most, and the count of a minute that has them."""

    name: str
    tokens: int
    limiter: FixedWindowRateLimiter
    ends: float
    """When that minute ends, in seconds since 1970."""


class Quota:
    """`amount` tokens a minute for each name. Without the store, each process counts alone.

    A request reserves all tokens that it can use; those that it did not use are given back when it
    ends within the same minute. So the requests that begin in a minute use at most `amount`.
    """

    def __init__(
        self, amount: int, storage: Storage, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.amount = amount
        self._item = RateLimitItemPerMinute(amount)
        self._shared = FixedWindowRateLimiter(storage)
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._clock = clock
        self._asks_again = -math.inf

    def seconds_left(self, name: str, tokens: int = 1) -> int:
        """Seconds until the name may use so many tokens, 0 if it may now."""

        def look(limiter: FixedWindowRateLimiter) -> int:
            if limiter.test(self._item, name, cost=tokens):
                return 0
            reset = limiter.get_window_stats(self._item, name).reset_time
            return max(1, math.ceil(reset - time.time()))

        return self._ask(look)

    def tokens_left(self, name: str) -> int:
        """Tokens that the name may use in this minute."""
        return self._ask(lambda limiter: limiter.get_window_stats(self._item, name).remaining)

    def reserve(self, name: str, tokens: int) -> Reservation:
        """Count tokens that a request can use."""

        def count(limiter: FixedWindowRateLimiter) -> Reservation:
            if tokens:
                limiter.hit(self._item, name, cost=tokens)
            ends = limiter.get_window_stats(self._item, name).reset_time
            return Reservation(name, tokens, limiter, ends)

        return self._ask(count)

    def settle(self, reserved: Reservation, used: int) -> None:
        """Count the tokens that a request has used instead of those that it reserved."""
        unused = reserved.tokens - used
        if unused < 0:
            self._ask(lambda limiter: limiter.hit(self._item, reserved.name, cost=-unused))
        elif unused and time.time() < reserved.ends - MARGIN_SECONDS:
            with contextlib.suppress(StorageError):
                reserved.limiter.hit(self._item, reserved.name, cost=-unused)

    def _ask(self, question: Callable[[FixedWindowRateLimiter], Answer]) -> Answer:
        """The answer of the store, or of this process while the store fails."""
        now = self._clock()
        if now >= self._asks_again:
            try:
                return question(self._shared)
            except StorageError as error:
                self._asks_again = now + PAUSE_SECONDS
                kind = type(error.storage_error).__name__
                logger.error("the store of limits fails (%s); counting here for now", kind)
        return question(self._own)
