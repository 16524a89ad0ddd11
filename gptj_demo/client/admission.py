"""Which requests may enter the queue, and whose turn it is. Pure: no lock, no loop, no process.

The engine gets about as many completions as fit into its slots and tokens (see `shares`). The
others wait here, even if their request has started. Turns alternate between addresses, then between
the visitors of an address: the next turn goes to the address with the fewest taken slots, then to
its visitor with the fewest, then to that visitor's oldest request. One visitor gets at most seven
of eight slots, so that other visitors find a free one. With `shares_by_address`, the limit also
applies to an address, however many visitors it names. An address then gets at most half of the
slots while another address is active, because each row makes a step slower for everybody.

Once a request is next, it stays next, so small requests cannot delay a large one for ever. If its
completion reserves more tokens than are free, it waits for them in the engine, which begins
completions in the order of their arrival. If it reserves more than its visitor's share, the
visitor's other requests wait too.

When an engine ends, its requests are suspended, and the next engine gets them first. A request is a
suspect if two engines in a row ended before they had generated a token for it: it may be the cause.
The next engine gets suspects first, each alone until it has a token. So a request that ends every
engine is found and harms no other request, and no other request is blamed for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.shares import Capacity, Held, Shares, Usage
from gptj_demo.pages import Reservation
from gptj_demo.protocol import Visitor
from gptj_demo.texts import message

_NOTHING = Reservation(0, 0)


@dataclass(slots=True)
class _Request:
    """An open request. The engine does not have `unsent` of its completions that have not ended."""

    visitor: Visitor | None
    unsent: int
    in_engine: int = 0
    reserves: Reservation = _NOTHING  # known once it is ready
    ahead: int | None = None
    """Requests that start before it, as last reported to its stream; None before a report."""
    is_waiting: bool = True  # it has no slot yet
    is_ready: bool = False  # its completions may be submitted
    is_suspect: bool = False

    @property
    def completions(self) -> int:
        """Completions that have not ended."""
        return self.unsent + self.in_engine

    def tokens_of(self, further: int) -> int:
        """Tokens that `further` completions reserve in addition to those in the engine."""
        tokens = self.reserves.tokens
        return tokens(self.in_engine + further) - tokens(self.in_engine)


class Admission:
    """The open requests, by id; ids grow in the order of arrival.

    `max_waiting` requests may wait in all. `capacity` is that of the newest model; `is_open` says
    whether an engine takes requests at present.
    """

    def __init__(
        self,
        max_waiting: int,
        *,
        shares_by_address: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_waiting = max_waiting
        self.capacity = Capacity()
        self.is_open = False
        self._requests: dict[int, _Request] = {}
        self._waiting: set[int] = set()
        self._ready: set[int] = set()
        self._submitted: set[int] = set()
        self._suspended: set[int] = set()
        self._on_trial: set[int] = set()  # suspects that the engine has
        self._places_changed = False
        self._shares = Shares(shares_by_address, clock)

    @property
    def usage(self) -> Usage:
        """What the started requests hold. A suspended request keeps what it held."""
        slots, tokens = self.capacity.slots, self.capacity.max_tokens
        started = list(self._started())
        running = sum(completions for _, completions in started)
        reserved = sum(one.reserves.tokens(completions) for one, completions in started)
        running = min(running, slots) if slots else running
        return Usage(running, min(reserved, tokens), len(self._waiting))

    def _started(self) -> Iterator[tuple[_Request, int]]:
        """The requests that have started, and how many slots each holds."""
        for request_id, one in self._requests.items():
            if not one.is_waiting:
                is_suspended = request_id in self._suspended
                yield one, one.in_engine or (one.completions if is_suspended else 0)

    def is_submitted(self, request_id: int) -> bool:
        """Whether the engine has a completion of the request."""
        return request_id in self._submitted

    def not_ready(self) -> list[int]:
        """The requests that were not yet ready to be submitted, oldest first."""
        return [i for i, one in self._requests.items() if not one.is_ready]

    def refusal(self, visitor: Visitor | None) -> RequestRefused | None:
        """Why a new request of the visitor cannot enter the queue now, None if it can."""
        running, reserved, count = self.usage
        taken = math.ceil(self.capacity.taken(running, reserved))
        free = self.capacity.slots - taken if self.is_open else 0
        if count >= self.max_waiting + free:
            return RequestRefused("queue_full", message("refused.queue_full", count=count))
        if visitor is not None:
            waiting = (self._requests[i].visitor for i in self._waiting)
            own = sum(self._shares.are_one(visitor, one) for one in waiting)
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
        self._shares.note(visitor)
        self._waiting.add(request_id)
        self._places_changed = True

    def mark_ready(self, request_id: int, reserves: Reservation) -> bool:
        """Note that a request may be submitted; False if it is over or has been ready before."""
        one = self._requests.get(request_id)
        if one is None or one.is_ready:
            return False
        one.is_ready, one.reserves = True, reserves
        self._ready.add(request_id)
        return True

    def start(self, request_id: int) -> None:
        """Note that the request holds a slot."""
        if request_id in self._waiting:
            self._waiting.remove(request_id)
            self._requests[request_id].is_waiting = False
            self._places_changed = True

    def end_completion(self, request_id: int) -> bool:
        """Note that a completion in the engine has ended; returns whether it was the last one."""
        self.start(request_id)
        one = self._requests[request_id]
        one.in_engine -= 1
        if not one.completions:
            self.leave(request_id)
        elif not one.in_engine:
            self._submitted.discard(request_id)
        return not one.completions

    def drop_unsent(self, request_id: int) -> None:
        """Forget a request's completions that the engine does not have; it has others of it."""
        self._requests[request_id].unsent = 0
        self._ready.discard(request_id)

    def leave(self, request_id: int) -> None:
        """Forget a request; unknown ids are ignored."""
        if (one := self._requests.pop(request_id, None)) is not None:
            self._shares.note(one.visitor)
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
            # started requests without a completion there are not resumed, but need an engine too
            self._suspended.update(i for i, one in self._requests.items() if not one.is_waiting)
        self._submitted.difference_update(had)
        self._on_trial.difference_update(had)
        return had

    def suspended(self) -> list[int]:
        """The requests that an ended engine had begun and that no other engine has yet."""
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
        """Note that an engine generated something for it; returns whether it was a suspect."""
        if request_id not in self._on_trial:
            return False
        self._on_trial.remove(request_id)
        self._requests[request_id].is_suspect = False
        return True

    # ---- whose turn it is

    def next_turns(self) -> list[int]:
        """The request ids of the completions to submit now, in order; these count as submitted.

        The list has the id of a request once for each completion. The engine gets a few more
        completions than fit into its slots and tokens, so that none of these is unused while the
        next completion is on its way.
        """
        if not self.is_open:
            return []
        held = self._held()
        turns = []
        while held.all.slots < self.capacity.most and not self._on_trial:
            chosen = self._next(held)
            if chosen is None:
                break
            one = self._requests[chosen]
            held.add(one.visitor, 1, one.tokens_of(1))
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

    def _next(self, held: Held) -> int | None:
        """The request whose turn it is; None if no visitor may have more."""
        ready: Collection[int] = self._ready
        while ready:
            chosen = min(ready, key=lambda i: self._turn(i, held))
            one = self._requests[chosen]
            if self._shares.allow(one.visitor, one.tokens_of(1), held):
                return chosen
            same = self._shares.are_one
            ready = [i for i in ready if not same(one.visitor, self._requests[i].visitor)]
        return None

    def _turn(self, request_id: int, held: Held) -> tuple[Any, ...]:
        """The sort key: suspects, then requests of an ended engine, then by taken slots and age."""
        one = self._requests[request_id]
        is_new = request_id not in self._suspended
        return not one.is_suspect, is_new, held.of(one.visitor), request_id

    def moved(self) -> list[tuple[int, int]]:
        """Each waiting request whose position has changed: its id and the new position."""
        if not self._places_changed:
            return []
        self._places_changed = False
        held = self._held()
        turns: list[tuple[bool, tuple[float, float], int]] = []
        for request_id in sorted(self._waiting):
            one = self._requests[request_id]
            turns.append((not one.in_engine, held.of(one.visitor), request_id))
            held.add(one.visitor, one.unsent, one.tokens_of(one.unsent))
        moved = []
        for ahead, (*_, request_id) in enumerate(sorted(turns)):
            if ahead != self._requests[request_id].ahead:
                self._requests[request_id].ahead = ahead
                moved.append((request_id, ahead))
        return moved

    def _held(self) -> Held:
        """What is in the engine."""
        held = Held(self.capacity)
        for request_id in self._submitted:
            one = self._requests[request_id]
            held.add(one.visitor, one.in_engine, one.reserves.tokens(one.in_engine))
        return held
