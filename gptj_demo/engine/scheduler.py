"""Who runs next. Knows slots, lengths and order; knows neither torch nor text.

Continuous batching: at every step each running sequence decodes one token, and within a budget of
prompt tokens the oldest admitted sequences read on in their prompts. Waiting sequences are admitted
in the order of their arrival, whenever a slot is free; a slot holds a full context, so a sequence
that is admitted always fits.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass(slots=True)
class Sequence:
    """One request on its way: what is prefilled, and the slot it holds (-1: none)."""

    request_id: int
    prompt_token_ids: tuple[int, ...]
    slot: int = -1
    prefilled: int = 0
    generated_token_ids: list[int] = field(default_factory=list)

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
class Step:
    """What one step does. `decode` is ordered by slot."""

    admitted: list[Sequence]
    prefill: list[PrefillChunk]
    decode: list[Sequence]


class Scheduler:
    """`max_streams` slots, and at most `prefill_budget` prompt tokens a step."""

    def __init__(self, max_streams: int, prefill_budget: int) -> None:
        self.max_streams = max_streams
        self.prefill_budget = prefill_budget
        self._waiting: OrderedDict[int, Sequence] = OrderedDict()
        self._running: OrderedDict[int, Sequence] = OrderedDict()
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
        self._waiting[sequence.request_id] = sequence

    def remove(self, request_id: int) -> Sequence | None:
        """Take a sequence out, finished or cancelled; its slot is free at once. None if unknown."""
        if (sequence := self._waiting.pop(request_id, None)) is not None:
            return sequence
        if (sequence := self._running.pop(request_id, None)) is not None:
            heapq.heappush(self._free_slots, sequence.slot)
            return sequence
        return None

    def schedule(self) -> Step:
        """Admit what fits and decide the next step.

        The chunks count as prefilled from here on; the caller runs them before it asks again.
        """
        admitted = []
        while self._waiting and self._free_slots:
            request_id, sequence = self._waiting.popitem(last=False)
            sequence.slot = heapq.heappop(self._free_slots)
            self._running[request_id] = sequence
            admitted.append(sequence)
        decode = sorted(
            (sequence for sequence in self._running.values() if not sequence.in_prefill),
            key=lambda sequence: sequence.slot,
        )
        prefill = []
        budget = self.prefill_budget
        for sequence in self._running.values():
            if sequence.in_prefill and budget > 0:
                start = sequence.prefilled
                sequence.prefilled = min(sequence.prompt_length, start + budget)
                budget -= sequence.prefilled - start
                prefill.append(PrefillChunk(sequence, start, sequence.prefilled))
        return Step(admitted, prefill, decode)

    def check_integrity(self) -> None:
        """Raise `RuntimeError` where slots and sequences do not add up; cheap enough for tests."""
        held = [sequence.slot for sequence in self._running.values()]
        if sorted(held + self._free_slots) != list(range(self.max_streams)):
            raise RuntimeError(f"slots held {sorted(held)} and free {sorted(self._free_slots)}")
