"""Filters that look at the entropy of the distribution, or at a fixed probability."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.control import Filter, UsingRows
from gptj_demo.engine.sampling.select import smallest_kept


class TypicalP(Filter):
    """Meister et al. 2022, as transformers' TypicalLogitsWarper."""

    name = "typical_p"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._share = users.column(self.name)

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        probabilities, log_probabilities = scaled.softmax(dim=1), scaled.log_softmax(dim=1)
        entropy = _entropy(probabilities, log_probabilities)
        distance = (-log_probabilities - entropy).abs()
        return distance > -smallest_kept(-distance, probabilities, self._share)


class EpsilonCutoff(Filter):
    """Hewitt et al. 2022, as transformers' EpsilonLogitsWarper."""

    name = "epsilon_cutoff"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._epsilon = users.column(self.name)

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        return (scaled.softmax(dim=1) < self._epsilon) & _not_first(scaled)


class EtaCutoff(EpsilonCutoff):
    """Hewitt et al. 2022, as transformers' EtaLogitsWarper."""

    name = "eta_cutoff"

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        probabilities = scaled.softmax(dim=1)
        entropy = _entropy(probabilities, scaled.log_softmax(dim=1))
        eta = torch.minimum(self._epsilon, self._epsilon.sqrt() * (-entropy).exp())
        return (probabilities < eta) & _not_first(scaled)


def _not_first(scaled: torch.Tensor) -> torch.Tensor:
    """All but the most probable tokens, which stay."""
    return scaled < scaled.amax(dim=1, keepdim=True)


def _entropy(probabilities: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
    """The entropy in nats, [rows, 1]; removed tokens do not count."""
    terms = probabilities * log_probabilities
    # the number of rows decides how threads split a sum; in fp64 rounding hides the difference
    return -terms.nansum(dim=1, keepdim=True, dtype=torch.float64).float()
