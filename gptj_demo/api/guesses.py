"""How often an address may guess a key or a password, in memory of a fixed size."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from gptj_demo.client.visitor import network_of

AT_ONCE = 10
SECONDS_EACH = 30.0
MAX_ADDRESSES = 10_000


class Guesses:
    """Counts wrong guesses of each address: `AT_ONCE`, then one every `SECONDS_EACH`.

    The addresses of an IPv6 network (/64) count as one. Beyond `MAX_ADDRESSES`, the
    addresses that guessed longest ago are forgotten. `clock` returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()
        """When the last guess of an address stops counting."""

    def wait(self, address: str) -> int:
        """Seconds until the address may guess again, 0 if it may now."""
        left = self._free_at.get(network_of(address), 0.0) - self._clock()
        return max(0, math.ceil(left - SECONDS_EACH * (AT_ONCE - 1)))

    def count(self, address: str) -> None:
        """Count a guess."""
        name, now = network_of(address), self._clock()
        self._free_at[name] = max(self._free_at.pop(name, now), now) + SECONDS_EACH
        while len(self._free_at) > MAX_ADDRESSES:
            self._free_at.popitem(last=False)

    def take_back(self, address: str) -> None:
        """Undo one `count`: the guess was right."""
        name = network_of(address)
        if name in self._free_at:
            self._free_at[name] -= SECONDS_EACH

    def __len__(self) -> int:
        return len(self._free_at)
