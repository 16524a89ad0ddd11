"""Mirostat 2: the surprise of the text is steered to a target."""

from __future__ import annotations

import math

import torch

from gptj_demo.engine.sampling.control import Filter, UsingRows
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload

_BITS = -1 / math.log(2)


class Mirostat(Filter):
    """Basu et al. 2020, version 2, as in llama.cpp.

    Removes the tokens whose surprise, -log2 of the probability, is above a limit mu. mu begins at
    twice the target tau. After each token it decreases by eta * (surprise - tau), with the surprise
    at which the token was drawn.
    """

    name = "mirostat"
    keeps_state = True

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._tau = users.column("mirostat_tau")
        self._eta = users.column("mirostat_eta")
        # fp32 [users, 1]
        self._mu = users.stack(self.name, self._first_limit)

    def _first_limit(self, row: RowSampler) -> torch.Tensor:
        """The limit of a row that is new, or was resumed: fp32 [1]."""
        device = self.users.device
        tau, eta = upload([row.params.mirostat_tau, row.params.mirostat_eta], torch.float32, device)
        mu: torch.Tensor = 2 * tau
        for logprob in upload(row.resumed_logprobs, torch.float32, device):
            mu = mu - eta * (logprob * _BITS - tau)
        return mu[None]

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        is_first = scaled == scaled.amax(dim=1, keepdim=True)
        return (_surprise(scaled) > self._mu) & ~is_first

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:
        assert scaled is not None
        chosen = tokens[self.users.index][:, None]
        surprise = _surprise(scaled[self.users.index]).gather(1, chosen)
        self._mu -= self._eta * (surprise - self._tau)


def _surprise(scaled: torch.Tensor) -> torch.Tensor:
    """The surprise of each token, in bits: [users, vocabulary]."""
    return scaled.log_softmax(dim=1).mul_(_BITS)
