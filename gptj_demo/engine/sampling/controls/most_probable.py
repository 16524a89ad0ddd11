"""Filters that keep the most probable tokens: top-k, top-p and min-p."""

from __future__ import annotations

import math

import torch

from gptj_demo.engine.sampling.control import Filter, UsingRows
from gptj_demo.engine.sampling.select import smallest_kept
from gptj_demo.engine.transfer import upload


class TopK(Filter):
    """Fan et al. 2018, as transformers' TopKLogitsWarper."""

    name = "top_k"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        counts = [min(count, users.vocabulary) for count in users.values(self.name)]
        self._largest = max(counts)
        self._last = upload([[count - 1] for count in counts], torch.int64, users.device)

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        largest = scaled.topk(self._largest, dim=1).values
        return scaled < largest.gather(1, self._last)


class TopP(Filter):
    """Holtzman et al. 2019, as transformers' TopPLogitsWarper."""

    name = "top_p"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._share = users.column(self.name)

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        weights = (scaled - scaled.amax(dim=1, keepdim=True)).exp_()
        return scaled < smallest_kept(scaled, weights, self._share)


class MinP(Filter):
    """Nguyen et al. 2024, as transformers' MinPLogitsWarper."""

    name = "min_p"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        logarithms = [math.log(share) for share in users.values(self.name)]
        self._below_peak = upload(logarithms, torch.float32, users.device)[:, None]

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        return scaled < scaled.amax(dim=1, keepdim=True) + self._below_peak
