"""Decides which sequences run next. Uses slots, lengths and order only, neither torch nor text.

Continuous batching: at every step each running sequence decodes one token, and prompt tokens are
prefilled up to a budget. Waiting sequences are admitted in order of arrival when a slot is free. A
slot holds a full context, so an admitted sequence always fits.

Prompts with the least left to read come first, so a short prompt does not wait for a long one. To
bound the delay of a long prompt, at least two of three steps read on in the oldest prompt: where
reading in the order of admission takes n chunks up to the end of a prompt, it ends within
n + ceil(n / 2) steps, whatever arrives after it.

Prefixes are cached (`prefix_cache`): a slot keeps its tokens after its sequence has ended, and a
new sequence reuses the longest prefix of its prompt in any slot. So the completions of one request
share their prompt: one reads it while the others wait.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field

from gptj_demo.engine.prefix_cache import MIN_REUSED_TOKENS, PrefixCache

SequenceKey = tuple[int, int]

TURNS_OF_OLDEST = 2
"""Steps that must read the oldest prompt after a step that preferred shorter ones."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One completion: how much of its prompt is prefilled, and the slot it holds (-1: none).

    The completions of one request have the same `request_id` and prompt and differ in `index`.
    `reads_all` forbids reusing a cached prefix, because the logits of the whole prompt are wanted.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    index: int = 0
    reads_all: bool = False
    admission: int = 0  # the earlier it was admitted, the lower
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
        """Whether more of the prompt is unread than its last token, which can be decoded."""
        return self.prefilled < self.prompt_length - (not self.reads_all)

    @property
    def is_worth_sharing(self) -> bool:
        """Whether other completions of the request can reuse the prompt once it has been read."""
        return self.prompt_length > MIN_REUSED_TOKENS

    @property
    def length(self) -> int:
        """Tokens so far, prompt and generated."""
        return self.prompt_length + len(self.generated_token_ids)

    @property
    def newest_token_id(self) -> int:
        """The token to decode next, at position `length` - 1."""
        return (
            self.generated_token_ids[-1] if self.generated_token_ids else self.prompt_token_ids[-1]
        )

    def computed(self, start: int) -> Tokens[int]:
        """The tokens from position `start` on whose keys and values have been computed."""
        prompt, generated = self.prompt_token_ids, self.generated_token_ids
        if not generated:
            return prompt[start : self.prefilled]
        # the newest token is computed in the next step
        if start >= len(prompt):
            return generated[start - len(prompt) : -1]
        return (*prompt[start:], *generated[:-1])


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Tokens `start` to `end` (excluded) of a sequence's prompt, read in this step."""

    sequence: Sequence
    start: int
    end: int

    @property
    def completes_prompt(self) -> bool:
        return self.end == self.sequence.prompt_length


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies the first `length` positions of the slot `source` to the slot `target`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `copies` in this order, then `decode` (ordered by slot) and `prefill`."""

    admitted: list[Sequence]
    copies: list[Copy]
    decode: list[Sequence]
    prefill: list[PrefillChunk]


class Scheduler:
    """`max_streams` slots, and at most `prefill_budget` prompt tokens a step."""

    def __init__(self, max_streams: int, prefill_budget: int) -> None:
        self.max_streams = max_streams
        self.prefill_budget = prefill_budget
        self._waiting: OrderedDict[SequenceKey, Sequence] = OrderedDict()
        self._running: dict[SequenceKey, Sequence] = {}
        self._unplaced: dict[SequenceKey, Sequence] = {}  # running, but without a slot yet
        self._reading: dict[Sequence, None] = {}  # with a slot, and a prompt to read
        self._by_slot: list[Sequence | None] = [None] * max_streams
        self._cache = PrefixCache(max_streams, self._computed)
        self._times_admitted = 0
        self._turns_of_oldest = 0  # steps before the oldest prompt may be passed over again

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
        """Put a sequence at the end of the queue."""
        self._waiting[sequence.key] = sequence

    def remove(self, key: SequenceKey, *, keep: bool = True) -> Sequence | None:
        """Take a sequence out, finished or cancelled; its slot is free at once. None if unknown.

        With `keep`, later prompts may reuse the slot's tokens.
        """
        if (sequence := self._waiting.pop(key, None)) is not None:
            return sequence
        if (sequence := self._running.pop(key, None)) is not None:
            self._unplaced.pop(key, None)
            self._reading.pop(sequence, None)
            if sequence.slot >= 0:
                self._cache.release(sequence.slot, keep=keep)
                self._by_slot[sequence.slot] = None
            return sequence
        return None

    def schedule(self) -> Step:
        """Admit what fits and decide the next step.

        Copies and chunks count as done; the caller runs them before the next call.
        """
        admitted: list[Sequence] = []
        free = self.max_streams - len(self._running)
        while self._waiting and free:
            key, sequence = self._waiting.popitem(last=False)
            self._running[key] = self._unplaced[key] = sequence
            self._times_admitted += 1
            sequence.admission = self._times_admitted
            admitted.append(sequence)
            free -= 1
        copies = self._place_admitted()
        decode = [one for one in self._by_slot if one is not None and one not in self._reading]
        prefill = self._prefill()
        return Step(admitted, copies, decode, prefill)

    def _place_admitted(self) -> list[Copy]:
        """Give slots to the admitted sequences that have none.

        A completion waits while another one of its request reads a prompt that it can reuse.
        """
        copies = []
        shared = {one.request_id for one in self._reading if one.is_worth_sharing}
        for key, sequence in list(self._unplaced.items()):
            if sequence.request_id in shared:
                continue
            del self._unplaced[key]
            placement = self._cache.place(sequence.prompt_token_ids, reuse=not sequence.reads_all)
            sequence.slot = placement.slot
            self._by_slot[placement.slot] = sequence
            sequence.prefilled = sequence.reused = placement.reused
            if placement.source is not None:
                copies.append(Copy(placement.source, placement.slot, placement.reused))
            if sequence.in_prefill:
                self._reading[sequence] = None
                if sequence.is_worth_sharing:
                    shared.add(sequence.request_id)
        return copies

    def _prefill(self) -> list[PrefillChunk]:
        """The chunks that are read in this step."""
        if not self._reading:
            return []
        oldest = min(self._reading, key=lambda one: one.admission)
        order = sorted(
            self._reading, key=lambda one: (one.prompt_length - one.prefilled, one.admission)
        )
        if self._turns_of_oldest:
            order.remove(oldest)
            order.insert(0, oldest)
        chunks = []
        budget = self.prefill_budget
        for sequence in order:
            # cut at multiples of the budget whatever else runs: results depend on the cuts
            start = sequence.prefilled
            next_cut = (start // self.prefill_budget + 1) * self.prefill_budget
            end = min(sequence.prompt_length, next_cut)
            if end - start <= budget:
                budget -= end - start
                sequence.prefilled = end
                if not sequence.in_prefill:
                    del self._reading[sequence]
                chunks.append(PrefillChunk(sequence, start, end))
        if any(chunk.sequence is oldest for chunk in chunks):
            self._turns_of_oldest = max(0, self._turns_of_oldest - 1)
        else:
            self._turns_of_oldest = TURNS_OF_OLDEST
        return chunks

    def _computed(self, slot: int, start: int) -> Tokens[int]:
        sequence = self._by_slot[slot]
        return () if sequence is None else sequence.computed(start)

    def check_integrity(self) -> None:
        """Raise `RuntimeError` if slots and sequences are inconsistent; for tests."""
        held = {slot: one for slot, one in enumerate(self._by_slot) if one is not None}
        placed = {one.slot: one for one in self._running.values() if one.slot >= 0}
        free = self._cache.free
        if held != placed or free != self.max_streams - len(held):
            raise RuntimeError(
                f"slots held: {sorted(held)}, by sequences: {sorted(placed)}, free: {free}"
            )
