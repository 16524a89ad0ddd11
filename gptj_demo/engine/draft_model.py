"""Drafts by a small model with the same tokenizer, which draws by the request's own noise.

The draft model reads the text into a KV cache of its own, and its tokens are chosen by a copy of
the row's controls with the noise of the same seed, position and ids. So the two models choose the
same token wherever their probabilities are alike (Leviathan, Kalman and Matias 2023, with common
random numbers in place of rejection sampling).

Each draft compares the cache with the row's tokens, cuts it back to the common prefix and reads
the rest. So rejected tokens and ended rows need no notification. Its pages are those of the large
model's cache, shared in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

import torch

from gptj_demo.engine.end_conditions import ended_by
from gptj_demo.engine.model import Chunk, ForwardModel, KVCache
from gptj_demo.engine.model import Rows as DecodeRows
from gptj_demo.engine.prefix_cache import Placement, common_length
from gptj_demo.engine.sampling import RowSampler, SamplerBatch
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.engine.speculation import MOST_DRAFTED, Drafter, PassCost, measure_passes
from gptj_demo.pages import PAGE_TOKENS, page_count

_MOST_READ = 128
"""The most tokens that a step reads to catch up with texts; the other rows wait for them."""
_MOST_PENDING = MOST_DRAFTED + 1
"""The most tokens of a row that are decoded together; more are prefilled."""

_FIRST_RATES = {True: 0.7, False: 0.6}
"""The first estimate of how often a drafted token is right, by whether the row is greedy."""
_LEARNING_RATE, _USUAL_LEARNING_RATE = 0.1, 0.02
_SHORTEST_PAUSE, _LONGEST_PAUSE = 32, 512
"""Tokens between two trials of a row whose drafts do not pay; each pause is twice the last one."""


class DraftModel(Drafter):
    """A draft model and its KV cache, which has the slots and pages of the large model's.

    `target` is the large model's cache, and `passes` what its passes cost. Ids below `vocabulary`
    can be drafted, except `unused`.
    """

    name = "model"

    @torch.inference_mode()
    def __init__(
        self,
        model: ForwardModel,
        target: KVCache,
        vocabulary: int,
        unused: torch.Tensor | None,
        passes: PassCost,
    ) -> None:
        if not model.verifies:
            raise ValueError("the draft model's forward path takes one token of a slot at a time")
        self._model = model
        self._vocabulary = vocabulary
        self._unused = unused
        self._cache = model.make_cache(target.max_num_seqs, target.pages * PAGE_TOKENS)
        # the tokens of each slot whose keys and values the cache holds
        self._held: list[list[int]] = [[] for _ in range(target.max_num_seqs)]
        self._records: dict[Sequence, _Record] = {}
        self._usual_rates = dict(_FIRST_RATES)
        model.prefill(self._cache, Chunk([0] * _MOST_PENDING, 0, 0, 0))  # compiles what it needs
        own = measure_passes(model, self._cache)
        self._token_cost = own.seconds / passes.seconds
        self._row_cost = own.row

    def cost(self, rows: int) -> float:
        return self._token_cost * (1 + self._row_cost * (rows - 1)) / rows

    def chance(self, row: Sequence, sampler: RowSampler) -> float:
        return self._record(row, sampler).rate

    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], most: Rows[int], least: float
    ) -> list[list[int]]:
        drafts: list[list[int]] = [[] for _ in rows]
        going: list[_Going] = []
        budget = _MOST_READ
        for row, sampler, limit, draft in zip(rows, samplers, most, drafts, strict=True):
            record = self._record(row, sampler)
            # the last token needs no position: it is drawn from the logits of the token before it
            limit = min(limit, self._model.shape.context_length - row.length + 1)
            length = record.length(len(row.generated_token_ids), limit, least)
            if length <= 0:
                continue
            pending, read = self._catch_up(row, budget)
            budget -= read
            if len(pending) <= _MOST_PENDING:
                record.drafted, record.start = draft, len(row.generated_token_ids)
                going.append(_Going(row, sampler.fork(), length, pending, draft))
        while going:
            self._draw(going)
            going = [one for one in going if one.goes_on]
        return drafts

    def place(self, placement: Placement) -> None:
        # the target's context can be longer, and no row is drafted beyond the draft model's own
        pages = placement.pages[: page_count(self._model.shape.context_length)]
        self._cache.place(placement.slot, pages, placement.copied)
        source = placement.source
        self._held[placement.slot] = (
            [] if source is None else self._held[source][: placement.reused]
        )

    def forget(self, row: Sequence) -> None:
        record = self._records.pop(row, None)
        if record is not None:
            self._learn(row, record)

    def _record(self, row: Sequence, sampler: RowSampler) -> _Record:
        """The record of a row's drafts, including the last one."""
        record = self._records.get(row)
        if record is None:
            rate = self._usual_rates[sampler.greedy]
            record = self._records[row] = _Record(sampler.greedy, rate)
        self._learn(row, record)
        return record

    def _learn(self, row: Sequence, record: _Record) -> None:
        """Compare the last draft with the tokens that were generated."""
        came = row.generated_token_ids[record.start :]
        for drafted, token_id in zip(record.drafted, came, strict=False):
            is_right = drafted == token_id
            record.rate += _LEARNING_RATE * (is_right - record.rate)
            usual = self._usual_rates[record.is_greedy]
            self._usual_rates[record.is_greedy] += _USUAL_LEARNING_RATE * (is_right - usual)
            if not is_right:
                break
        record.drafted = []

    def _catch_up(self, row: Sequence, budget: int) -> tuple[list[int], int]:
        """Prefill a row if many tokens are pending; returns those still pending and how many it
        read.

        Pending tokens are those that the cache does not hold. At least the newest one is left,
        because its logits are needed.
        """
        held = self._held[row.slot]
        tokens = [*row.prompt_token_ids, *row.generated_token_ids]
        del held[common_length(held, tokens, 0, row.length - 1) :]
        pending = tokens[len(held) :]
        read = min(budget, len(pending) - 1) if len(pending) > _MOST_PENDING else 0
        if read:
            self._model.prefill(self._cache, Chunk(pending[:read], row.slot, len(held), 0))
            held += pending[:read]
        return pending[read:], read

    def _draw(self, going: Rows[_Going]) -> None:
        """Decode the pending tokens of some rows and draw the next one of each."""
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        last = []
        for one in going:
            held = self._held[one.row.slot]
            token_ids += one.pending
            positions += range(len(held), len(held) + len(one.pending))
            slots += [one.row.slot] * len(one.pending)
            held += one.pending
            last.append(len(token_ids) - 1)
        hidden = self._model.decode(self._cache, DecodeRows(token_ids, positions, slots))
        logits = self._model.logits(hidden[last])
        samplers = [one.sampler for one in going]
        batch = SamplerBatch(samplers, self._vocabulary, self._model.device, self._unused)
        for one, sampled in zip(going, batch.sample(logits), strict=True):
            if sampled.token_id is not None:
                one.draft.append(sampled.token_id)
            elif sampled.ended is None:  # NaN
                self._held[one.row.slot].clear()
            one.pending = [] if sampled.token_id is None else [sampled.token_id]


@dataclass(slots=True)
class _Record:
    """How often a row's drafts are right, and its last draft, made after `start` tokens."""

    is_greedy: bool
    rate: float
    drafted: list[int] = field(default_factory=list)
    start: int = 0
    pause: int = _SHORTEST_PAUSE
    next_trial: int = 0

    def length(self, written: int, most: int, least: float) -> int:
        """How many tokens to draft: the chance that all are right is at least `least`."""
        if self.rate >= least:
            self.pause = _SHORTEST_PAUSE
            if least <= 0 or self.rate >= 1:
                return most
            return min(most, max(1, int(math.log(least) / math.log(self.rate))))
        if written < self.next_trial:
            return 0
        self.next_trial = written + self.pause
        self.pause = min(2 * self.pause, _LONGEST_PAUSE)
        return min(most, 1)


@dataclass(slots=True)
class _Going:
    """A row that is being drafted; `pending` are the tokens to decode before the next draw."""

    row: Sequence
    sampler: RowSampler
    length: int
    pending: list[int]
    draft: list[int]

    @property
    def goes_on(self) -> bool:
        """Whether another token is drafted: fewer than `length` are, and none ends the text."""
        if not self.pending or len(self.draft) >= self.length:
            return False
        return ended_by(self.draft[-1], self.sampler.params, self.sampler.eos_token_ids) is None
