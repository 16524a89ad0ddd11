"""Who runs next. Knows slots, lengths and order; knows neither torch nor text.

Continuous batching: at every step each running sequence decodes one token, and within a budget of
prompt tokens the oldest admitted sequences read on in their prompts. Waiting sequences are admitted
in the order of their arrival, whenever a slot is free; a slot holds a full context, so a sequence
that is admitted always fits.

A prompt is read in chunks that begin at multiples of the budget, whatever else is going on: so the
same prompt goes through the same products in any company. Sequences of one request share their
prompt: one of them reads it, and the others take over its keys and values.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

SequenceKey = tuple[int, int]


@dataclass(slots=True, eq=False)
class Sequence:
    """One completion on its way: what is prefilled, and the slot it holds (-1: none).

    Those of one request have the same `request_id` and prompt, and `index` 0 to `siblings` - 1.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    index: int = 0
    siblings: int = 1
    slot: int = -1
    prefilled: int = 0
    generated_token_ids: list[int] = field(default_factory=list)

    @property
    def key(self) -> SequenceKey:
        return self.request_id, self.index

    @property
    def prompt_length(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def in_prefill(self) -> bool:
        return self.prefilled < self.prompt_length

    @property
    def length(self) -> int:
        """Tokens so far, prompt and generated."""
        return self.prompt_length + len(self.generated_token_ids)


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Tokens `start` to `end` of a sequence's prompt, to be read in this step."""

    sequence: Sequence
    start: int
    end: int

    @property
    def completes_prompt(self) -> bool:
        return self.end == self.sequence.prompt_length


@dataclass(frozen=True, slots=True)
class Fork:
    """`sequence` takes over the keys and values of its prompt from `source`, its sibling."""

    sequence: Sequence
    source: Sequence


@dataclass(frozen=True, slots=True)
class Step:
    """What one step does: `decode`, which is ordered by slot, then `prefill`, then `forks`."""

    admitted: list[Sequence]
    decode: list[Sequence]
    prefill: list[PrefillChunk]
    forks: list[Fork]


class Scheduler:
    """`max_streams` slots, and at most `prefill_budget` prompt tokens a step."""

    def __init__(self, max_streams: int, prefill_budget: int) -> None:
        self.max_streams = max_streams
        self.prefill_budget = prefill_budget
        self._waiting: OrderedDict[SequenceKey, Sequence] = OrderedDict()
        self._running: OrderedDict[SequenceKey, Sequence] = OrderedDict()
        self._free_slots = list(range(max_streams))  # a heap: low slots first keeps rows together

    @property
    def is_idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Put a sequence at the end of the waiting line."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: SequenceKey) -> Sequence | None:
        """Take a sequence out, finished or cancelled; its slot is free at once. None if unknown."""
        if (sequence := self._waiting.pop(key, None)) is not None:
            return sequence
        if (sequence := self._running.pop(key, None)) is not None:
            heapq.heappush(self._free_slots, sequence.slot)
            return sequence
        return None

    def schedule(self) -> Step:
        """Admit what fits and decide the next step.

        Chunks and forks count as prefilled from here on; the caller runs them before it asks again.
        """
        admitted = []
        while self._waiting and self._free_slots:
            key, sequence = self._waiting.popitem(last=False)
            sequence.slot = heapq.heappop(self._free_slots)
            self._running[key] = sequence
            admitted.append(sequence)
        decode = sorted(
            (sequence for sequence in self._running.values() if not sequence.in_prefill),
            key=lambda sequence: sequence.slot,
        )
        readers: dict[int, Sequence] = {}  # by request: who has read the prompt, or reads it
        for sequence in decode:
            readers.setdefault(sequence.request_id, sequence)
        prefill: list[PrefillChunk] = []
        followers: list[Sequence] = []
        budget = self.prefill_budget
        for sequence in self._running.values():
            if not sequence.in_prefill:
                continue
            if readers.setdefault(sequence.request_id, sequence) is not sequence:
                followers.append(sequence)
                continue
            start = sequence.prefilled
            end = min(sequence.prompt_length, start + self.prefill_budget)
            if end - start <= budget:
                budget -= end - start
                sequence.prefilled = end
                prefill.append(PrefillChunk(sequence, start, end))
        forks = []
        for sequence in followers:
            source = readers[sequence.request_id]
            if not source.in_prefill:
                sequence.prefilled = sequence.prompt_length
                forks.append(Fork(sequence, source))
        return Step(admitted, decode, prefill, forks)

    def check_integrity(self) -> None:
        """Raise `RuntimeError` where slots and sequences do not add up; cheap enough for tests."""
        held = [sequence.slot for sequence in self._running.values()]
        if sorted(held + self._free_slots) != list(range(self.max_streams)):
            raise RuntimeError(f"slots held {sorted(held)} and free {sorted(self._free_slots)}")
