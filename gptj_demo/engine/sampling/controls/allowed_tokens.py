"""Allows only the given tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload
from gptj_demo.sampling import SamplingParams


class AllowedTokens(Control):
    """As vLLM's `allowed_token_ids`: every other token is removed, end-of-text tokens too."""

    name = "allowed_token_ids"
    may_empty = True
    is_binding = True

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._removed = users.stack(self.name, self._removed_from)  # bool [users, vocabulary]

    def _removed_from(self, row: RowSampler) -> torch.Tensor:
        users = self.users
        allowed = upload(row.params.allowed_token_ids, torch.int64, users.device)
        everything = torch.ones(users.vocabulary, dtype=torch.bool, device=users.device)
        return everything.index_fill_(0, allowed, False)

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        return bool(row.params.allowed_token_ids)

    def apply(self, logits: torch.Tensor) -> None:
        index = self.users.index
        logits[index] = logits[index].masked_fill(self._removed, -torch.inf)


def allowed_of(token_ids: Sequence[int], params: SamplingParams) -> list[int]:
    """Those of `token_ids` that the control allows."""
    allowed = set(params.allowed_token_ids)
    return [token_id for token_id in token_ids if not allowed or token_id in allowed]
