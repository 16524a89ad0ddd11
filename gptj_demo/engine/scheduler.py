"""Who runs next. Knows slots, lengths and order; knows neither torch nor text.

Continuous batching: at every step each running sequence decodes one token, and within a budget of
prompt tokens the oldest admitted sequences read on in their prompts. Waiting sequences are admitted
in the order of their arrival, whenever a slot is free; a slot holds a full context, so a sequence
that is admitted always fits.

What was computed once is not computed again: a slot remembers the tokens whose keys and values it
holds, also when its sequence is over, and a new sequence takes over the longest beginning of its
prompt that any slot holds. So the completions of one request share their prompt: one reads it, the
others wait for that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

SequenceKey = tuple[int, int]

# a shorter common beginning is not worth a copy
_LEAST_REUSED_TOKENS = 8


@dataclass(slots=True, eq=False)
class Sequence:
    """One completion on its way: what is prefilled, and the slot it holds (-1: none).

    Those of one request have the same `request_id` and prompt, and each an `index` of its own.
    `reads_all` says that nothing may be taken over, because the prompt's own logits are wanted.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    index: int = 0
    reads_all: bool = False
    slot: int = -1
    prefilled: int = 0
    reused: int = 0
    generated_token_ids: list[int] = field(default_factory=list)

    @property
    def key(self) -> SequenceKey:
        return self.request_id, self.index

    @property
    def prompt_length(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def in_prefill(self) -> bool:
        """Whether more of the prompt is to be read than its last token, which can be decoded."""
        return self.prefilled < self.prompt_length - (not self.reads_all)

    @property
    def length(self) -> int:
        """Tokens so far, prompt and generated."""
        return self.prompt_length + len(self.generated_token_ids)

    @property
    def newest_token_id(self) -> int:
        """The token that is decoded next, at position `length` - 1."""
        return (
            self.generated_token_ids[-1] if self.generated_token_ids else self.prompt_token_ids[-1]
        )


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
class Copy:
    """The slot `target` takes over the first `length` positions of `source`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one step does: `copies` in this order, `decode`, which is ordered by slot, `prefill`."""

    admitted: list[Sequence]
    copies: list[Copy]
    decode: list[Sequence]
    prefill: list[PrefillChunk]


@dataclass(slots=True, eq=False)
class _Slot:
    """A slot of the KV cache: who holds it, and what stands in it when nobody does."""

    number: int
    sequence: Sequence | None = None
    kept: Tokens[int] = ()
    freed: int = 0  # the later it was freed, the higher

    def holds(self) -> Tokens[int]:
        """The tokens whose keys and values are in the slot."""
        sequence = self.sequence
        if sequence is None:
            return self.kept
        if not sequence.generated_token_ids:
            return sequence.prompt_token_ids[: sequence.prefilled]
        return (*sequence.prompt_token_ids, *sequence.generated_token_ids[:-1])


class Scheduler:
    """`max_streams` slots, and at most `prefill_budget` prompt tokens a step."""

    def __init__(self, max_streams: int, prefill_budget: int) -> None:
        self.max_streams = max_streams
        self.prefill_budget = prefill_budget
        self._waiting: OrderedDict[SequenceKey, Sequence] = OrderedDict()
        self._running: OrderedDict[SequenceKey, Sequence] = OrderedDict()
        self._slots = [_Slot(number) for number in range(max_streams)]
        self._times_freed = 0

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

    def remove(self, key: SequenceKey, *, keep: bool = True) -> Sequence | None:
        """Take a sequence out, finished or cancelled; its slot is free at once. None if unknown.

        With `keep` the slot remembers what it holds, for whoever begins in the same way.
        """
        if (sequence := self._waiting.pop(key, None)) is not None:
            return sequence
        if (sequence := self._running.pop(key, None)) is not None:
            slot = self._slots[sequence.slot]
            slot.kept = slot.holds() if keep else ()
            slot.sequence = None
            self._times_freed += 1
            slot.freed = self._times_freed
            return sequence
        return None

    def schedule(self) -> Step:
        """Admit what fits and decide the next step.

        Copies and chunks count as done from here on; the caller runs them before it asks again.
        """
        admitted: list[Sequence] = []
        copies: list[Copy] = []
        free = self.max_streams - len(self._running)
        while self._waiting and free:
            key, sequence = self._waiting.popitem(last=False)
            self._running[key] = sequence
            admitted.append(sequence)
            free -= 1
        # those that are admitted get their slots when they begin to read, the siblings of one that
        # still reads after it
        readers = {s.request_id for s in self._running.values() if s.slot >= 0 and s.in_prefill}
        for sequence in self._running.values():
            if sequence.slot < 0 and sequence.request_id not in readers:
                self._place(sequence, copies)
                if sequence.in_prefill:
                    readers.add(sequence.request_id)
        placed = [sequence for sequence in self._running.values() if sequence.slot >= 0]
        decode = [sequence for sequence in placed if not sequence.in_prefill]
        decode.sort(key=lambda sequence: sequence.slot)
        prefill = []
        budget = self.prefill_budget
        for sequence in placed:
            if not sequence.in_prefill:
                continue
            # cut at multiples of the budget, and never for the sake of others
            start = sequence.prefilled
            next_cut = (start // self.prefill_budget + 1) * self.prefill_budget
            end = min(sequence.prompt_length, next_cut)
            if end - start <= budget:
                budget -= end - start
                sequence.prefilled = end
                prefill.append(PrefillChunk(sequence, start, end))
        return Step(admitted, copies, decode, prefill)

    def _place(self, sequence: Sequence, copies: list[Copy]) -> None:
        """Give a sequence a free slot, and what another one holds of its prompt's beginning."""
        free = [slot for slot in self._slots if slot.sequence is None]
        # empty ones first, which keeps rows together, then the one freed longest ago
        target = min(free, key=lambda slot: (slot.freed if slot.kept else -1, slot.number))
        prompt = sequence.prompt_token_ids
        reused, source = 0, target
        if not sequence.reads_all:
            for slot in self._slots:
                common = _common_beginning(prompt[:-1], slot.holds())
                if common > reused and common >= _LEAST_REUSED_TOKENS:
                    reused, source = common, slot
        if source.sequence is None and reused >= len(source.kept) // 2:
            target = source  # little else would be lost with it
        elif reused:
            copies.append(Copy(source.number, target.number, reused))
        sequence.slot, target.sequence, target.kept = target.number, sequence, ()
        sequence.prefilled = sequence.reused = reused

    def check_integrity(self) -> None:
        """Raise `RuntimeError` where slots and sequences do not add up; cheap enough for tests."""
        held = {slot.number: slot.sequence for slot in self._slots if slot.sequence is not None}
        placed = {s.slot: s for s in self._running.values() if s.slot >= 0}
        if held != placed or len(self._running) > self.max_streams:
            raise RuntimeError(f"slots held {sorted(held)}, sequences in {sorted(placed)}")


def _common_beginning(one: Tokens[int], other: Tokens[int]) -> int:
    """How many tokens at the beginning are the same; compares slices, which is fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if tuple(one[low:middle]) == tuple(other[low:middle]):
            low = middle
        else:
            high = middle - 1
    return low
