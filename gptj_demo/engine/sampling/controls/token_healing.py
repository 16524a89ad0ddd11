"""The first token begins with the characters that were removed from the prompt."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload


class TokenHealing(Control):
    """The first token is one of the row's `first_token_ids`."""

    name = "token_healing"
    may_empty = True
    is_binding = True

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._allowed = [
            (number, row, upload(row.first_token_ids, torch.int64, users.device))
            for number, row in zip(users.numbers, users.rows, strict=True)
        ]

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        return bool(row.first_token_ids)

    def apply(self, logits: torch.Tensor) -> None:
        for number, row, allowed in self._allowed:
            if not row.generated_token_ids:
                own = logits[number]
                kept = own[allowed]
                own.fill_(-torch.inf).index_put_((allowed,), kept)
