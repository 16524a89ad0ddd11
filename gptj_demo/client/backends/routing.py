"""Chooses the engine of each request, and knows which engine has which requests.

Pure: no lock, no clock, no process. A request goes to an engine with a free slot and room for its
tokens, if there is one. The router prefers the engine with the longest cached prefix of the prompt,
then the one that the visitor used last, then the least busy one. The completions of a request stay
on one engine, because a request is cancelled and resumed as a whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gptj_demo.client.shares import reservation
from gptj_demo.pages import Reservation
from gptj_demo.protocol import EngineEvent, Finished, Submit, TokenEvent, Visitor, beginnings

BLOCK = 16
"""Tokens of a prefix that are compared at once."""

KEPT = 4
"""How many sequences an engine is assumed to have cached, times its slots. Each slot keeps one, and
a continued text takes over the slot of its beginning."""

HOME_SHARE = 0.25
"""A visitor's last engine is preferred until it is busier than the least busy one by this share of
its room."""

MOST_VISITORS = 10_000
"""Visitors whose last engine is remembered."""


class Prefixes:
    """The prefixes that one engine has computed lately: the hashes of their blocks.

    The hash of a block covers everything before it. Hashes of old sequences are forgotten.
    """

    def __init__(self, sequences: int) -> None:
        self._sequences = sequences
        self._newest = 0
        self._used: OrderedDict[int, int] = OrderedDict()  # the last sequence, by hash

    def __len__(self) -> int:
        return len(self._used)

    def matched(self, hashes: Iterable[int]) -> int:
        """How many of the blocks, from the first one on, are cached."""
        count = 0
        for one in hashes:
            if one not in self._used:
                break
            count += 1
        return count

    def begin(self, hashes: Iterable[int]) -> None:
        """Note a new sequence that begins with these blocks."""
        self._newest += 1
        for one in hashes:
            self.grow(one)
        while self._used:
            oldest = next(iter(self._used))
            if self._used[oldest] > self._newest - self._sequences:
                break
            del self._used[oldest]

    def grow(self, block: int) -> None:
        """Note another block of a running sequence."""
        self._used[block] = self._newest
        self._used.move_to_end(block)


class Trail:
    """The tokens of a growing sequence, as the hashes of its complete blocks."""

    def __init__(self) -> None:
        self.hash = 0
        self._block: list[int] = []

    def add(self, token_id: int) -> int | None:
        """Add a token; returns the hash of the block that it completes."""
        self._block.append(token_id)
        if len(self._block) < BLOCK:
            return None
        self.hash = hash((self.hash, *self._block))
        self._block.clear()
        return self.hash

    def extend(self, token_ids: Iterable[int]) -> Iterator[int]:
        """Add tokens; the hashes of the blocks that they complete."""
        for token_id in token_ids:
            if (block := self.add(token_id)) is not None:
                yield block


@dataclass(slots=True)
class _Engine:
    slots: int
    max_tokens: int
    context_length: int
    prefixes: Prefixes
    reservations: dict[int, Reservation] = field(default_factory=dict)
    """By request, for the requests in `trails`."""
    trails: dict[int, dict[int, Trail]] = field(default_factory=dict)
    """By request and completion, for completions that have not ended."""
    load: int = 0
    """Completions that have not ended."""

    @property
    def tokens(self) -> int:
        """Tokens that these completions reserve."""
        reserved = self.reservations
        return sum(reserved[one].tokens(len(trails)) for one, trails in self.trails.items())

    @property
    def share(self) -> float:
        """The taken share of its slots or of its tokens, whichever is larger."""
        return max(self.load / self.slots, self.tokens / self.max_tokens)

    def has_room(self, submit: Submit) -> bool:
        """Whether a completion of a new request can begin at once."""
        needed = reservation(submit, self.context_length).tokens(1)
        return self.load < self.slots and self.tokens + needed <= self.max_tokens


class Router:
    """The engines that are ready, by number, and the requests that each one has."""

    def __init__(self) -> None:
        self._engines: dict[int, _Engine] = {}
        self._engine_of: dict[int, int] = {}  # by request
        self._homes: OrderedDict[str, int] = OrderedDict()  # a visitor's last engine, by name

    @property
    def slots(self) -> int:
        """The slots of all engines."""
        return sum(engine.slots for engine in self._engines.values())

    @property
    def max_tokens(self) -> int:
        """The tokens of all engines' KV caches."""
        return sum(engine.max_tokens for engine in self._engines.values())

    @property
    def load(self) -> int:
        """The completions that all engines have."""
        return sum(engine.load for engine in self._engines.values())

    def add(self, number: int, slots: int, max_tokens: int, context_length: int) -> None:
        """An engine is ready."""
        prefixes = Prefixes(KEPT * slots)
        self._engines[number] = _Engine(slots, max_tokens, context_length, prefixes)

    def remove(self, number: int) -> tuple[int, ...]:
        """An engine has ended; returns the requests that it had."""
        engine = self._engines.pop(number, None)
        if engine is None:
            return ()
        for request_id in engine.trails:
            del self._engine_of[request_id]
        return tuple(engine.trails)

    def engine_of(self, request_id: int) -> int | None:
        """The engine that has the request."""
        return self._engine_of.get(request_id)

    def place(self, submit: Submit, visitor: Visitor | None) -> int | None:
        """Choose the engine for a request or a part of one; None where there is no engine."""
        prompt = Trail()
        hashes = list(prompt.extend(submit.prompt_token_ids))
        number = self._engine_of.get(submit.request_id)
        if number is None:
            number = self._choose(submit, hashes, visitor)
        if number is None:
            return None
        engine = self._engines[number]
        trails = engine.trails.setdefault(submit.request_id, {})
        engine.reservations[submit.request_id] = reservation(submit, engine.context_length)
        rest = submit.prompt_token_ids[len(hashes) * BLOCK :]
        resumption = submit.resumption
        if resumption is None:
            written = beginnings(submit.params, submit.expansion)
        else:
            written = resumption.written
        for index, so_far in written.items():
            trails[index] = trail = Trail()
            trail.hash = prompt.hash
            engine.prefixes.begin([*hashes, *trail.extend((*rest, *so_far.token_ids))])
            engine.load += 1
        self._engine_of[submit.request_id] = number
        if visitor is not None:
            self._homes[visitor.name] = number
            self._homes.move_to_end(visitor.name)
            if len(self._homes) > MOST_VISITORS:
                self._homes.popitem(last=False)
        return number

    def note(self, number: int, event: EngineEvent) -> None:
        """Take note of what an engine has sent."""
        engine = self._engines.get(number)
        trails = None if engine is None else engine.trails.get(event.request_id)
        if engine is None or trails is None:
            return
        if isinstance(event, TokenEvent):
            trail = trails.get(event.index)
            if trail is not None and (block := trail.add(event.token_id)) is not None:
                engine.prefixes.grow(block)
        elif isinstance(event, Finished) and trails.pop(event.index, None) is not None:
            engine.load -= 1
            if not trails:
                del engine.trails[event.request_id], engine.reservations[event.request_id]
                del self._engine_of[event.request_id]

    def _choose(self, submit: Submit, hashes: list[int], visitor: Visitor | None) -> int | None:
        free = {n: one for n, one in self._engines.items() if one.has_room(submit)}
        engines = free or self._engines
        if not engines:
            return None
        home = None if visitor is None else self._homes.get(visitor.name)
        least = min(engine.share for engine in engines.values())

        def order(number: int) -> tuple[float, int, bool, float, int]:
            engine = engines[number]
            is_home = number == home and engine.share <= least + HOME_SHARE
            waits = 0.0 if free else engine.share
            cached = engine.prefixes.matched(hashes)
            return waits, -cached, not is_home, engine.share, number

        return min(engines, key=order)
