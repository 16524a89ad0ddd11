"""Which requests may enter the queue, and whose turn it is. Pure: no lock, no loop, no process.

The engine gets about as many requests as it has slots; the others wait here. Turns alternate
between addresses, then between the visitors of an address: the next request is the oldest one of
the visitor with the fewest completions in the engine, of the address with the fewest. One visitor
gets at most seven of eight slots, so that other visitors find a free one; with `shares_by_address`
this holds for an address too, however many visitors it names.

When an engine ends, its requests are suspended, and the next engine gets them first. A request is a
suspect if two engines in a row ended before they had generated a token for it: it may be what ends
them. The next engine gets suspects one at a time, so a request that ends every engine is found and
harms no other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.protocol import Visitor
from gptj_demo.texts import message


@dataclass(slots=True)
class _Request:
    """An open request; `completions` is the number of its completions that have not ended."""

    visitor: Visitor | None
    completions: int
    ahead: int | None = None
    """Requests that start before it, as last reported to its stream; None before a report."""
    is_waiting: bool = True  # it has no slot yet
    is_ready: bool = False  # it may be submitted
    is_submitted: bool = False  # the engine has it
    is_suspect: bool = False


class _Held:
    """Completions in the engine, by visitor and by address; None is the process itself."""

    def __init__(self) -> None:
        self.by_visitor: Counter[str | None] = Counter()
        self.by_address: Counter[str | None] = Counter()

    def add(self, one: _Request) -> None:
        name, address = one.visitor or (None, None)
        self.by_visitor[name] += one.completions
        self.by_address[address] += one.completions

    def of(self, visitor: Visitor | None) -> tuple[int, int]:
        """The completions of the visitor's address, then those of the visitor."""
        name, address = visitor or (None, None)
        return self.by_address[address], self.by_visitor[name]


class Admission:
    """The open requests, by id; ids grow in the order of arrival.

    `max_waiting` requests may wait in all. `slots` is the number of slots of the newest model, 0
    before one is known; `is_open` says whether an engine takes requests at present.
    """

    def __init__(self, max_waiting: int, *, shares_by_address: bool = False) -> None:
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

    @property
    def slots_per_visitor(self) -> int:
        """Slots that one visitor gets at most: all but one in eight, if there are at least four."""
        return self.slots if self.slots < 4 else self.slots - max(1, self.slots // 8)

    @property
    def running(self) -> int:
        """Slots that are held: one for each completion of the requests that have started."""
        held = sum(one.completions for one in self._requests.values() if not one.is_waiting)
        return min(held, self.slots) if self.slots else held

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    def is_submitted(self, request_id: int) -> bool:
        """Whether the engine has the request."""
        return request_id in self._submitted

    def not_ready(self) -> list[int]:
        """The requests that were not yet ready to be submitted, oldest first."""
        return [i for i, one in self._requests.items() if not (one.is_ready or one.is_submitted)]

    # ---- what happens to a request

    def enter(self, request_id: int, visitor: Visitor | None, completions: int) -> None:
        """Put a new request into the queue; raises `RequestRefused` if that is full."""
        free = max(0, self.slots - self.running) if self.is_open else 0
        if self.waiting >= self.max_waiting + free:
            raise RequestRefused("queue_full", message("refused.queue_full", count=self.waiting))
        if visitor is not None:
            own = self._count_waiting(visitor)
            share = max(1, self.max_waiting - self.max_waiting // 4)
            if own >= share + free:
                raise RequestRefused("queue_full", message("refused.your_share", count=own))
        self._requests[request_id] = _Request(visitor, completions)
        self._waiting.add(request_id)
        self._places_changed = True

    def mark_ready(self, request_id: int) -> bool:
        """Note that the request may be submitted; False if it is over or already submitted."""
        one = self._requests.get(request_id)
        if one is None or one.is_submitted:
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
        """Note that one completion of the request has ended; whether it was the last."""
        self.start(request_id)
        one = self._requests[request_id]
        one.completions -= 1
        if not one.completions:
            self.leave(request_id)
        return not one.completions

    def leave(self, request_id: int) -> None:
        """Forget a request; unknown ids are ignored."""
        if self._requests.pop(request_id, None) is not None:
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

    def suspend(self) -> list[int]:
        """Note that the engine has ended; returns the ids of the requests that it had.

        They wait for the next engine, and are ready for it.
        """
        self.is_open = False
        had = sorted(self._submitted)
        for request_id in had:
            one = self._requests[request_id]
            one.is_submitted, one.is_ready = False, True
        self._ready.update(had)
        self._suspended.update(had)
        self._submitted.clear()
        self._on_trial.clear()
        return had

    def suspended(self) -> list[int]:
        """The requests that an ended engine had and that no other one has got yet."""
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
        """The requests to submit now, in this order; they count as submitted.

        The engine gets a few more than it has slots for, so that no slot is empty while the next
        request travels.
        """
        if not self.is_open:
            return []
        held = self._held()
        turns = []
        while self._ready and held.by_visitor.total() < self.slots + self.slots // 8:
            allowed = [i for i in self._ready if self._may_have_more(self._requests[i], held)]
            if not allowed:
                break
            chosen = min(
                allowed,
                key=lambda i: (i not in self._suspended, held.of(self._requests[i].visitor), i),
            )
            one = self._requests[chosen]
            held.add(one)
            one.is_ready, one.is_submitted = False, True
            self._ready.remove(chosen)
            self._suspended.discard(chosen)
            self._submitted.add(chosen)
            if one.is_suspect:
                self._on_trial.add(chosen)
            turns.append(chosen)
        return turns

    def _may_have_more(self, one: _Request, held: _Held) -> bool:
        """Whether the request may be submitted: its visitor holds less than its share of the
        slots, and no other suspect is on trial."""
        if one.is_suspect and self._on_trial:
            return False
        if one.visitor is None:
            return True
        by_address, by_visitor = held.of(one.visitor)
        if not self.shares_by_address:
            return by_visitor < self.slots_per_visitor
        return not by_address or by_address + one.completions <= self.slots_per_visitor

    def moved(self) -> list[tuple[int, int]]:
        """Each waiting request whose position has changed: its id and the new position."""
        if not self._places_changed:
            return []
        self._places_changed = False
        held = self._held()
        turns: list[tuple[bool, tuple[int, int], int]] = []
        for request_id in sorted(self._waiting):
            one = self._requests[request_id]
            turns.append((not one.is_submitted, held.of(one.visitor), request_id))
            if not one.is_submitted:
                held.add(one)
        moved = []
        for ahead, (*_, request_id) in enumerate(sorted(turns)):
            if ahead != self._requests[request_id].ahead:
                self._requests[request_id].ahead = ahead
                moved.append((request_id, ahead))
        return moved

    def _count_waiting(self, visitor: Visitor) -> int:
        """Waiting requests of the visitor, or of its address where that has the share."""
        waiting = (self._requests[i].visitor for i in self._waiting)
        others = [other for other in waiting if other is not None]
        if self.shares_by_address:
            return sum(other.address == visitor.address for other in others)
        return sum(other.name == visitor.name for other in others)

    def _held(self) -> _Held:
        """Completions in the engine."""
        held = _Held()
        for request_id in self._submitted:
            held.add(self._requests[request_id])
        return held
