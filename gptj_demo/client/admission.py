"""Which requests may enter the queue, and whose turn it is. Pure: no lock, no loop, no process.

The engine gets about as many completions as it has slots; the others wait here, also those of a
request that has started. Turns alternate between addresses, then between the visitors of an
address: the next completion is of the oldest request of the visitor with the fewest completions in
the engine, of the address with the fewest. One visitor gets at most seven of eight slots, so that
other visitors find a free one; with `shares_by_address` this holds for an address too, however many
visitors it names, and it gets half of the slots at most while another address is active: the rows
of a step cost everybody time.

When an engine ends, its requests are suspended, and the next engine gets them first. A request is a
suspect if two engines in a row ended before they had generated a token for it: it may be what ends
them. The next engine gets suspects first, each alone until it has a token. So a request that ends
every engine is found and harms no other, and a request that was only near is never taken for it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.protocol import Visitor
from gptj_demo.texts import message

ACTIVE_SECONDS = 60.0
"""An address is active for so long after its last request began or ended: a person reads and
writes between two requests."""


@dataclass(slots=True)
class _Request:
    """An open request; of its completions that have not ended, the engine has not got `unsent`."""

    visitor: Visitor | None
    unsent: int
    in_engine: int = 0
    ahead: int | None = None
    """Requests that start before it, as last reported to its stream; None before a report."""
    is_waiting: bool = True  # it has no slot yet
    is_ready: bool = False  # its completions may be submitted
    is_suspect: bool = False

    @property
    def completions(self) -> int:
        """Completions that have not ended."""
        return self.unsent + self.in_engine


class _Held:
    """Completions in the engine, by visitor and by address; None is the process itself."""

    def __init__(self) -> None:
        self.by_visitor: Counter[str | None] = Counter()
        self.by_address: Counter[str | None] = Counter()

    def add(self, visitor: Visitor | None, completions: int) -> None:
        name, address = _named(visitor)
        self.by_visitor[name] += completions
        self.by_address[address] += completions

    def of(self, visitor: Visitor | None) -> tuple[int, int]:
        """The completions of the visitor's address, then those of the visitor."""
        name, address = _named(visitor)
        return self.by_address[address], self.by_visitor[name]


def _named(visitor: Visitor | None) -> tuple[str | None, str | None]:
    return (None, None) if visitor is None else (visitor.name, visitor.address)


class _Activity:
    """Which addresses have been active lately."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}  # when, by address, oldest first

    def note(self, visitor: Visitor | None) -> None:
        if visitor is not None:
            self._seen.pop(visitor.address, None)
            self._seen[visitor.address] = self._clock()
        self._forget_inactive()

    def others(self, address: str) -> bool:
        """Whether another address is active."""
        self._forget_inactive()
        return any(one != address for one in self._seen)

    def _forget_inactive(self) -> None:
        oldest = self._clock() - ACTIVE_SECONDS
        while self._seen and next(iter(self._seen.values())) < oldest:
            del self._seen[next(iter(self._seen))]


def _is_same(one: Visitor, other: Visitor | None, by_address: bool) -> bool:
    """Whether two requests come from one visitor, or from one address."""
    if other is None:
        return False
    return one.address == other.address if by_address else one.name == other.name


class Admission:
    """The open requests, by id; ids grow in the order of arrival.

    `max_waiting` requests may wait in all. `slots` is the number of slots of the newest model, 0
    before one is known; `is_open` says whether an engine takes requests at present.
    """

    def __init__(
        self,
        max_waiting: int,
        *,
        shares_by_address: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_waiting = max_waiting
        self.shares_by_address = shares_by_address
        self.slots = 0
        self.is_open = False
        self._requests: dict[int, _Request] = {}
        self._waiting: set[int] = set()
        self._ready: set[int] = set()
        self._submitted: set[int] = set()
        self._suspended: set[int] = set()
        self._on_trial: set[int] = set()  # suspects that the engine has
        self._places_changed = False
        self._activity = _Activity(clock)

    @property
    def slots_per_visitor(self) -> int:
        """Slots that one visitor gets at most: all but one in eight, if there are at least four."""
        return self.slots if self.slots < 4 else self.slots - max(1, self.slots // 8)

    @property
    def running(self) -> int:
        """Slots that are held: one for each completion in the engine of the started requests.

        Those of a suspended request stay held.
        """
        held = sum(
            one.in_engine or (one.completions if i in self._suspended else 0)
            for i, one in self._requests.items()
            if not one.is_waiting
        )
        return min(held, self.slots) if self.slots else held

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def is_submitted(self, request_id: int) -> bool:
        """Whether the engine has a completion of the request."""
        return request_id in self._submitted

    def not_ready(self) -> list[int]:
        """The requests that were not yet ready to be submitted, oldest first."""
        return [i for i, one in self._requests.items() if not one.is_ready]

    def refusal(self, visitor: Visitor | None) -> RequestRefused | None:
        """Why a new request of the visitor cannot enter the queue now, None if it can."""
        free = max(0, self.slots - self.running) if self.is_open else 0
        if self.waiting >= self.max_waiting + free:
            return RequestRefused("queue_full", message("refused.queue_full", count=self.waiting))
        if visitor is not None:
            waiting = (self._requests[i].visitor for i in self._waiting)
            own = sum(_is_same(visitor, one, self.shares_by_address) for one in waiting)
            share = max(1, self.max_waiting - self.max_waiting // 4)
            if own >= share + free:
                return RequestRefused("queue_full", message("refused.your_share", count=own))
        return None

    # ---- what happens to a request

    def enter(self, request_id: int, visitor: Visitor | None, completions: int) -> None:
        """Put a new request into the queue; raises `RequestRefused` if that is full."""
        refusal = self.refusal(visitor)
        if refusal is not None:
            raise refusal
        self._requests[request_id] = _Request(visitor, unsent=completions)
        self._activity.note(visitor)
        self._waiting.add(request_id)
        self._places_changed = True

    def mark_ready(self, request_id: int) -> bool:
        """Note that the request may be submitted; False if it is over or has been ready before."""
        one = self._requests.get(request_id)
        if one is None or one.is_ready:
            return False
        one.is_ready = True
        self._ready.add(request_id)
        return True

    def start(self, request_id: int) -> None:
        """Note that the request holds a slot."""
        if request_id in self._waiting:
            self._waiting.remove(request_id)
            self._requests[request_id].is_waiting = False
            self._places_changed = True

    def end_completion(self, request_id: int) -> bool:
        """Note that one completion in the engine has ended; whether it was the request's last."""
        self.start(request_id)
        one = self._requests[request_id]
        one.in_engine -= 1
        if not one.completions:
            self.leave(request_id)
        elif not one.in_engine:
            self._submitted.discard(request_id)
        return not one.completions

    def drop_unsent(self, request_id: int) -> None:
        """Forget the completions of a request that the engine has not got; it has others."""
        self._requests[request_id].unsent = 0
        self._ready.discard(request_id)

    def leave(self, request_id: int) -> None:
        """Forget a request; unknown ids are ignored."""
        if (one := self._requests.pop(request_id, None)) is not None:
            self._activity.note(one.visitor)
            self._places_changed |= request_id in self._waiting
            for ids in (
                self._waiting,
                self._ready,
                self._submitted,
                self._suspended,
                self._on_trial,
            ):
                ids.discard(request_id)

    # ---- what happens to the engine

    def suspend(self, only: Iterable[int] | None = None) -> list[int]:
        """Note that the engine has ended; returns the ids of the requests that it had.

        They wait for the next engine, and are ready for it. `only` are the requests of the engine
        that ended, if there are others.
        """
        self.is_open &= only is not None
        had = sorted(self._submitted if only is None else self._submitted.intersection(only))
        for request_id in had:
            one = self._requests[request_id]
            one.unsent, one.in_engine = one.completions, 0
        self._ready.update(had)
        self._suspended.update(had)
        if only is None:
            # those that the engine had no completion of are not resumed, but depend on it too
            self._suspended.update(i for i, one in self._requests.items() if not one.is_waiting)
        self._submitted.difference_update(had)
        self._on_trial.difference_update(had)
        return had

    def suspended(self) -> list[int]:
        """The requests that an ended engine had begun and that no other one has got yet."""
        return sorted(self._suspended)

    def all(self) -> list[int]:
        """All open requests."""
        return list(self._requests)

    def unprepare(self) -> None:
        """Note that no request is ready any more: the next engine has another tokenizer."""
        for request_id in self._ready:
            self._requests[request_id].is_ready = False
        self._ready.clear()

    def suspect(self, request_id: int) -> None:
        """Mark a request as a suspect: two engines in a row generated nothing for it."""
        self._requests[request_id].is_suspect = True

    def clear(self, request_id: int) -> bool:
        """Note that an engine generated something for the request; whether it was a suspect."""
        if request_id not in self._on_trial:
            return False
        self._on_trial.remove(request_id)
        self._requests[request_id].is_suspect = False
        return True

    # ---- whose turn it is

    def next_turns(self) -> list[int]:
        """The requests of the completions to submit now, in this order; they count as submitted.

        A request stands in the list once for each completion. The engine gets a few more than it
        has slots for, so that no slot is empty while the next one travels.
        """
        if not self.is_open:
            return []
        held = self._held()
        turns = []
        while self._ready and held.by_visitor.total() < self.slots + self.slots // 8:
            if self._on_trial:
                break
            allowed = [i for i in self._ready if self._may_have_more(self._requests[i], held)]
            if not allowed:
                break
            chosen = min(allowed, key=lambda i: self._turn(i, held))
            one = self._requests[chosen]
            held.add(one.visitor, 1)
            one.unsent -= 1
            one.in_engine += 1
            if not one.unsent:
                self._ready.remove(chosen)
                self._suspended.discard(chosen)
            self._submitted.add(chosen)
            if one.is_suspect:
                self._on_trial.add(chosen)
            turns.append(chosen)
        return turns

    def _turn(self, request_id: int, held: _Held) -> tuple[Any, ...]:
        """What orders requests: suspects, those of an ended engine, then by held slots, age."""
        one = self._requests[request_id]
        is_new = request_id not in self._suspended
        return not one.is_suspect, is_new, held.of(one.visitor), request_id

    def _may_have_more(self, one: _Request, held: _Held) -> bool:
        """Whether its visitor holds less than its share of the slots."""
        if one.visitor is None:
            return True
        by_address, by_visitor = held.of(one.visitor)
        if not self.shares_by_address:
            return by_visitor < self.slots_per_visitor
        has_others = self._activity.others(one.visitor.address)
        return by_address < (max(1, self.slots // 2) if has_others else self.slots_per_visitor)

    def moved(self) -> list[tuple[int, int]]:
        """Each waiting request whose position has changed: its id and the new position."""
        if not self._places_changed:
            return []
        self._places_changed = False
        held = self._held()
        turns: list[tuple[bool, tuple[int, int], int]] = []
        for request_id in sorted(self._waiting):
            one = self._requests[request_id]
            turns.append((not one.in_engine, held.of(one.visitor), request_id))
            held.add(one.visitor, one.unsent)
        moved = []
        for ahead, (*_, request_id) in enumerate(sorted(turns)):
            if ahead != self._requests[request_id].ahead:
                self._requests[request_id].ahead = ahead
                moved.append((request_id, ahead))
        return moved

    def _held(self) -> _Held:
        """Completions in the engine."""
        held = _Held()
        for request_id in self._submitted:
            one = self._requests[request_id]
            held.add(one.visitor, one.in_engine)
        return held
