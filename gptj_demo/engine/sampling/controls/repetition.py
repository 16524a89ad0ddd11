"""Penalties for tokens that were there before, kept on the device as one number a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gptj_demo.engine.sampling.control import Control, Users
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload


class RepetitionPenalty(Control):
    """Keskar et al. 2019, as transformers' RepetitionPenaltyLogitsProcessor."""

    name = "repetition_penalty"

    def __init__(self, users: Users) -> None:
        super().__init__(users)
        self._penalty = users.column(self.name)
        self._seen = users.stack(self.name, self._seen_by)  # bool [users, vocabulary]

    def _seen_by(self, row: RowSampler) -> torch.Tensor:
        """The tokens of prompt and continuation."""
        return _counts(row.request.prompt_token_ids, row.generated_token_ids, self.users) > 0

    def apply(self, logits: torch.Tensor, steps: Sequence[int]) -> None:
        part = logits[self.users.index]
        penalized = torch.where(part < 0, part * self._penalty, part / self._penalty)
        logits[self.users.index] = torch.where(self._seen, penalized, part)

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:
        self._seen.scatter_(1, tokens[self.users.index][:, None], True)


class FrequencyPenalty(Control):
    """OpenAI's, by how often a token stands in the continuation."""

    name = "frequency_penalty"

    def __init__(self, users: Users) -> None:
        super().__init__(users)
        self._penalty = users.column(self.name)
        # fp32 [users, vocabulary]
        self._times = users.stack(
            self.name, lambda row: _counts((), row.generated_token_ids, users)
        )

    def apply(self, logits: torch.Tensor, steps: Sequence[int]) -> None:
        logits[self.users.index] -= self._times * self._penalty

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:
        chosen = tokens[self.users.index][:, None]
        self._times.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float32))


class PresencePenalty(FrequencyPenalty):
    """OpenAI's, the same however often a token stands in the continuation."""

    name = "presence_penalty"

    def apply(self, logits: torch.Tensor, steps: Sequence[int]) -> None:
        logits[self.users.index] -= (self._times > 0).float() * self._penalty


def _counts(prompt: Sequence[int], generated: Sequence[int], users: Users) -> torch.Tensor:
    """How often each token stands in a text: fp32 [vocabulary]."""
    counts = torch.zeros(users.vocabulary, device=users.device)
    if not prompt and not generated:
        return counts
    token_ids = upload([*prompt, *generated], torch.int64, users.device)
    return counts.scatter_add_(0, token_ids, torch.ones_like(token_ids, dtype=torch.float32))
