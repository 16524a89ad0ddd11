"""Penalties for tokens that were there before, kept on the device as one number a token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload


class RepetitionPenalty(Control):
    """Keskar et al. 2019, as transformers' RepetitionPenaltyLogitsProcessor.

    With `repetition_penalty_range` only the last tokens count.
    """

    name = "repetition_penalty"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._penalty = users.column(self.name)
        self._ranges = users.values("repetition_penalty_range")
        self._seen = users.stack(self.name, self._seen_by)  # bool [users, vocabulary]

    def _seen_by(self, row: RowSampler) -> torch.Tensor:
        """The tokens of prompt and continuation that count."""
        # a range of 0 is all tokens
        counting = _tokens(row)[-row.params.repetition_penalty_range :]
        return _counts(counting, (), self.users) > 0

    def _forget(self) -> None:
        """Unmark the tokens that have left the ranges since the last step."""
        gone = []
        for user, (row, reach) in enumerate(zip(self.users.rows, self._ranges, strict=True)):
            tokens = _tokens(row) if reach else ()
            if len(tokens) > reach and tokens[-reach - 1] not in tokens[-reach:]:
                gone.append((user, tokens[-reach - 1]))
        if gone:
            users, token_ids = upload(gone, torch.int64, self.users.device).unbind(1)
            self._seen.index_put_((users, token_ids), torch.zeros_like(users, dtype=torch.bool))

    def apply(self, logits: torch.Tensor) -> None:
        if any(self._ranges):
            self._forget()
        part = logits[self.users.index]
        penalized = torch.where(part < 0, part * self._penalty, part / self._penalty)
        logits[self.users.index] = torch.where(self._seen, penalized, part)

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:
        self._seen.scatter_(1, tokens[self.users.index][:, None], True)


class FrequencyPenalty(Control):
    """OpenAI's penalty, by how often a token is in the continuation."""

    name = "frequency_penalty"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._penalty = users.column(self.name)
        # fp32 [users, vocabulary]
        self._times = users.stack(
            self.name, lambda row: _counts((), row.generated_token_ids, users)
        )

    def apply(self, logits: torch.Tensor) -> None:
        logits[self.users.index] -= self._times * self._penalty

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:
        chosen = tokens[self.users.index][:, None]
        self._times.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float32))


class PresencePenalty(FrequencyPenalty):
    """OpenAI's penalty, the same however often a token is in the continuation."""

    name = "presence_penalty"

    def apply(self, logits: torch.Tensor) -> None:
        logits[self.users.index] -= (self._times > 0).float() * self._penalty


def _tokens(row: RowSampler) -> tuple[int, ...]:
    """The tokens of prompt and continuation."""
    return (*row.request.prompt_token_ids, *row.generated_token_ids)


def _counts(prompt: Sequence[int], generated: Sequence[int], users: UsingRows) -> torch.Tensor:
    """How often each token is in a text: fp32 [vocabulary]."""
    counts = torch.zeros(users.vocabulary, device=users.device)
    if not prompt and not generated:
        return counts
    token_ids = upload([*prompt, *generated], torch.int64, users.device)
    return counts.scatter_add_(0, token_ids, torch.ones_like(token_ids, dtype=torch.float32))
