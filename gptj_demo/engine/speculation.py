"""Drafts tokens that the model may generate next, where verifying them saves time.

If reading the weights from memory takes most of the time, a pass over several tokens of a sequence
takes little longer than a pass over one. Drafters guess the tokens after the newest one, and the
runner keeps those that it would have generated. So drafts change the speed and never the tokens.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch

from gptj_demo.engine.model import Batch, ForwardModel
from gptj_demo.engine.model import Rows as DecodeRows
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.prefix_cache import Placement
from gptj_demo.engine.sampling import RowSampler
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.pages import page_count

MOST_DRAFTED = 8
"""The most tokens that are verified after the newest one."""

_MARGIN = 1.5
"""A token is verified if its chance is this many times the break-even chance: sampling in several
rounds takes time too."""
_MOST_LIKELY = 0.9
_MOST_LIKELY_SAMPLED = 0.7
"""No draft is made if it would need a higher chance than this, for greedy rows and for sampled
rows: drafts reach it too rarely."""
_LEAST_ROW_COST = 0.03
"""The least cost of a row on any processor; a measurement beside other programs can be lower."""
_MEASURED_ROWS = 1, 5
_MEASURED_POSITION = 256
_MEASURED_SECONDS, _LEAST_ROUNDS = 0.4, 2


class Drafter(ABC):
    """Guesses the next tokens of sequences."""

    name: ClassVar[str]
    """Its name in metrics."""

    def cost(self, rows: int) -> float:
        """The time of drafting a token for one of so many rows, as a part of a pass of one row."""
        return 0.0

    @abstractmethod
    def chance(self, row: Sequence, sampler: RowSampler) -> float:
        """How likely the next token that it would draft is right."""

    @abstractmethod
    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], most: Rows[int], least: float
    ) -> list[list[int]]:
        """The likely next tokens of each sequence, at most `most` of them.

        Each token's chance, with that of all before it, is at least `least`. Samplers are not
        changed.
        """

    def place(self, placement: Placement) -> None:  # noqa: B027
        """Take note that a slot gets a new sequence, and pages."""

    def forget(self, row: Sequence) -> None:  # noqa: B027  # not all keep something
        """Drop what is kept of a sequence that has ended."""


class Proposal(NamedTuple):
    """The tokens to verify after the newest one of a row, and the name of their drafter."""

    token_ids: list[int]
    drafter: str


class Speculation:
    """Decides which drafter drafts for a row, and how many tokens.

    `row_cost` is the time that one more row takes in a pass, as a part of a pass of one row.
    """

    def __init__(self, drafters: Rows[Drafter], row_cost: float) -> None:
        """`drafters` in the order in which they are preferred."""
        self._drafters = drafters
        self.row_cost = row_cost

    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], context_length: int
    ) -> list[Proposal]:
        """The tokens to verify after the newest one of each running sequence."""
        # a cost times this is the chance that outweighs it, given the tokens that the same time
        # yields without drafts
        outweighing = _MARGIN * len(rows) / (1 + self.row_cost * (len(rows) - 1))
        verifying = self.row_cost * outweighing
        proposals = [Proposal([], "") for _ in rows]
        if verifying > _MOST_LIKELY:
            return proposals
        chosen: dict[Drafter, list[int]] = {}
        most = []
        for number, (row, sampler) in enumerate(zip(rows, samplers, strict=True)):
            # one more token follows the drafted ones
            left = sampler.params.max_new_tokens - len(row.generated_token_ids)
            most.append(min(MOST_DRAFTED, left - 1, context_length - row.length - 1))
            most_likely = _MOST_LIKELY if sampler.greedy else _MOST_LIKELY_SAMPLED
            if most[-1] <= 0 or verifying > most_likely:
                continue

            gains = [
                one.chance(row, sampler) - one.cost(len(rows)) * outweighing
                for one in self._drafters
            ]
            best = self._drafters[gains.index(max(gains))]
            chosen.setdefault(best, []).append(number)
        for drafter, numbers in chosen.items():
            least = verifying + drafter.cost(len(numbers)) * outweighing
            drafts = drafter.draft(
                [rows[number] for number in numbers],
                [samplers[number] for number in numbers],
                [most[number] for number in numbers],
                least,
            )
            for number, draft in zip(numbers, drafts, strict=True):
                proposals[number] = Proposal(draft, drafter.name)
        return proposals

    def place(self, placement: Placement) -> None:
        """Take note that a slot gets a new sequence, and pages."""
        for drafter in self._drafters:
            drafter.place(placement)

    def forget(self, row: Sequence) -> None:
        """Drop what is kept of a sequence that has ended."""
        for drafter in self._drafters:
            drafter.forget(row)


@dataclass(slots=True)
class Draft:
    """A draft's tokens that are not sampled yet; `place` is the index of the logits before them."""

    token_ids: list[int]
    place: int
    drafter: str


class Drafted(NamedTuple):
    """The drafts that a step has computed, and its logits, fp32 [wanted, padded_vocabulary]."""

    drafts: dict[Sequence, Draft]
    logits: torch.Tensor

    @classmethod
    def of(
        cls,
        rows: Rows[Sequence],
        proposals: Rows[Proposal],
        places: Rows[int],
        logits: torch.Tensor,
    ) -> Drafted:
        """The drafts of some rows whose own logits stand at `places`."""
        kept = {}
        for row, (token_ids, drafter), place in zip(rows, proposals, places, strict=True):
            if token_ids:
                row.drafted[drafter] += len(token_ids)
                kept[row] = Draft(token_ids, place, drafter)
        return cls(kept, logits)

    def agreeing(self, rows: Rows[Sequence]) -> tuple[list[Sequence], list[int]]:
        """The rows whose newest token is the drafted one, and the indices of their next logits."""
        agreeing, places = [], []
        for row in rows if self.drafts else ():
            draft = self.drafts.pop(row, None)
            if draft is None or draft.token_ids[0] != row.newest_token_id:
                continue
            row.accepted[draft.drafter] += 1
            agreeing.append(row)
            places.append(draft.place + 1)
            if len(draft.token_ids) > 1:
                self.drafts[row] = Draft(draft.token_ids[1:], draft.place + 1, draft.drafter)
        return agreeing, places


class PassCost(NamedTuple):
    """The seconds of a pass of one row, and the cost of one more row of a slot as a part of it."""

    seconds: float
    row: float


@torch.inference_mode()
def measure_passes(model: ForwardModel, cache: KVCache) -> PassCost:
    """Measure the cost of the model's passes.

    Writes to the first slot and the first pages, which must be empty. Passes of one row and of
    several alternate, and the fastest of each counts.
    """
    start = min(_MEASURED_POSITION, model.shape.context_length - max(_MEASURED_ROWS))
    batches = [
        Batch(DecodeRows([0] * count, range(start, start + count), [0] * count))
        for count in _MEASURED_ROWS
    ]
    cache.place(0, range(1, 1 + page_count(start + max(_MEASURED_ROWS))))
    seconds = [math.inf] * len(batches)
    for batch in batches:  # the first time takes longer
        model.forward(cache, batch)
    began, rounds = time.perf_counter(), 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() - began < _MEASURED_SECONDS:
        rounds += 1
        for number, batch in enumerate(batches):
            begin = time.perf_counter()
            model.forward(cache, batch)
            seconds[number] = min(seconds[number], time.perf_counter() - begin)
    cache.place(0, ())
    fewer, more = _MEASURED_ROWS
    measured = (seconds[1] - seconds[0]) / (more - fewer) / seconds[0]
    return PassCost(seconds[0], max(_LEAST_ROW_COST, model.least_row_cost, measured))
