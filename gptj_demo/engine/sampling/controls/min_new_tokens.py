"""Prevents the end of the text before a given number of tokens."""

from __future__ import annotations

import math

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload


class MinNewTokens(Control):
    """As transformers' MinNewTokensLengthLogitsProcessor, also for `stop_token_ids`."""

    name = "min_new_tokens"
    may_empty = True

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        pairs = zip(users.numbers, users.rows, strict=True)
        ends = [(number, row, token) for number, row in pairs for token in _ends(row)]
        self._rows = [row for _, row, _ in ends]
        places = [(number, token) for number, _, token in ends]
        self._places = upload(places, torch.int64, users.device).unbind(1)

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        return super().uses(row) and bool(_ends(row))

    def apply(self, logits: torch.Tensor) -> None:
        forbidden = [
            -math.inf if len(row.generated_token_ids) < row.params.min_new_tokens else 0.0
            for row in self._rows
        ]
        values = upload(forbidden, torch.float32, self.users.device)
        logits.index_put_(self._places, values, accumulate=True)


def _ends(row: RowSampler) -> list[int]:
    return [*row.params.stop_token_ids, *row.eos_token_ids]
