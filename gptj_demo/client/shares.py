"""Counts what the engine can hold, and what it holds for each visitor. Pure.

An engine can run out of slots or of tokens in the KV cache. One rule counts both in slots:
completions take one slot each or, if that is more, as many slots as their share of the cache
amounts to. So if each slot has a whole context, only the number of completions counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from gptj_demo.pages import Reservation
from gptj_demo.protocol import Submit, Visitor

ACTIVE_SECONDS = 60.0
"""How long an address is active after its last request began or ended. A person reads and writes
between two requests."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The slots of an engine, and the tokens of its KV cache; 0 before they are known."""

    slots: int = 0
    max_tokens: int = 0

    @property
    def most(self) -> int:
        """Slots up to which the engine gets completions: an eighth more than it has."""
        return self.slots + self.slots // 8

    @property
    def of_a_visitor(self) -> int:
        """Slots that one visitor gets at most: all but one in eight, if there are at least four."""
        return self.slots if self.slots < 4 else self.slots - max(1, self.slots // 8)

    @property
    def of_one_of_several(self) -> int:
        """Slots that one address gets at most while another one is active."""
        return max(1, self.slots // 2)

    def taken(self, completions: int, tokens: int) -> float:
        """Slots that completions take if they reserve so many tokens together."""
        worth = tokens * self.slots / self.max_tokens if self.max_tokens else 0.0
        return max(completions, worth)


def reservation(submit: Submit, context_length: int) -> Reservation:
    """The tokens of the KV cache that a request's completions reserve in the engine."""
    prompt_tokens = len(submit.prompt_token_ids)
    return Reservation.of(prompt_tokens, submit.params.max_new_tokens, context_length)


class Usage(NamedTuple):
    """What the requests that have started hold, and how many wait."""

    running: int
    """Slots: one for each completion."""
    reserved: int
    """Tokens of the KV cache."""
    waiting: int
    """Requests that wait for a slot."""


@dataclass(slots=True)
class Part:
    """What one visitor or one address has in the engine, or all of them together."""

    capacity: Capacity
    completions: int = 0
    tokens: int = 0
    slots: float = 0.0

    def add(self, completions: int, tokens: int) -> None:
        """Count further completions, which reserve so many tokens more."""
        self.slots = self.slots_with(completions, tokens)
        self.completions += completions
        self.tokens += tokens

    def slots_with(self, completions: int, tokens: int) -> float:
        """The slots that are taken if these are added."""
        return self.capacity.taken(self.completions + completions, self.tokens + tokens)


class Held:
    """What is in the engine, by visitor and by address; None is the process itself."""

    def __init__(self, capacity: Capacity) -> None:
        self.all = Part(capacity)
        self._by_visitor: defaultdict[str | None, Part] = defaultdict(lambda: Part(capacity))
        self._by_address: defaultdict[str | None, Part] = defaultdict(lambda: Part(capacity))

    def add(self, visitor: Visitor | None, completions: int, tokens: int) -> None:
        """Count completions of a visitor, which reserve so many tokens more."""
        for part in (self.all, self.visitor(visitor), self.address(visitor)):
            part.add(completions, tokens)

    def visitor(self, visitor: Visitor | None) -> Part:
        """What the visitor has."""
        return self._by_visitor[None if visitor is None else visitor.name]

    def address(self, visitor: Visitor | None) -> Part:
        """What the visitor's address has."""
        return self._by_address[None if visitor is None else visitor.address]

    def of(self, visitor: Visitor | None) -> tuple[float, float]:
        """The slots that the visitor's address takes, then those that the visitor takes."""
        return self.address(visitor).slots, self.visitor(visitor).slots


class Shares:
    """How much each visitor may hold, or each address if `is_by_address`."""

    def __init__(self, is_by_address: bool, clock: Callable[[], float]) -> None:
        self._is_by_address = is_by_address
        self._clock = clock
        self._seen: dict[str, float] = {}  # when each address was active, oldest first

    def note(self, visitor: Visitor | None) -> None:
        """Note that the visitor's address is active now."""
        if visitor is not None:
            self._seen.pop(visitor.address, None)
            self._seen[visitor.address] = self._clock()
        self._forget_inactive()

    def are_one(self, visitor: Visitor | None, other: Visitor | None) -> bool:
        """Whether both have one share together; the process itself (None) has no limit."""
        if visitor is None or other is None:
            return False
        if self._is_by_address:
            return visitor.address == other.address
        return visitor.name == other.name

    def allow(self, visitor: Visitor | None, tokens: int, held: Held) -> bool:
        """Whether one more completion, of so many tokens, is within the share, or the only one."""
        if visitor is None:
            return True
        part = held.address(visitor) if self._is_by_address else held.visitor(visitor)
        share = part.capacity.of_a_visitor
        if self._is_by_address and self._has_others(visitor.address):
            share = part.capacity.of_one_of_several
        return not part.completions or part.slots_with(1, tokens) <= share

    def _has_others(self, address: str) -> bool:
        """Whether another address is active."""
        self._forget_inactive()
        return any(one != address for one in self._seen)

    def _forget_inactive(self) -> None:
        oldest = self._clock() - ACTIVE_SECONDS
        while self._seen and next(iter(self._seen.values())) < oldest:
            del self._seen[next(iter(self._seen))]
