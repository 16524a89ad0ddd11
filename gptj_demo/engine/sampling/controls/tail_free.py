"""Tail-free sampling: the tail begins where the curve of the sorted probabilities gets flat."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.control import Filter, UsingRows

_UNIT = 2**40  # curvatures are summed as integers, so that a sum is the same on every device
_FLAT = 1e-6  # if all curvatures sum to no more, they count the same, as in llama.cpp


class TailFree(Filter):
    """Bricken 2019, with the details of llama.cpp's `llama_sampler_tail_free`."""

    name = "tfs"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._share = users.column(self.name).double()

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        probabilities = scaled.softmax(dim=1)
        ordered = probabilities.sort(dim=1, descending=True).values
        curvatures = ordered.diff(dim=1).diff(dim=1).abs()  # [users, vocabulary - 2]
        left = (scaled > -torch.inf).sum(dim=1, keepdim=True)
        inside = torch.arange(curvatures.shape[1], device=scaled.device) < left - 2
        units = (curvatures * _UNIT).long() * inside
        is_flat = units.sum(dim=1, keepdim=True) <= _FLAT * _UNIT
        units = torch.where(is_flat, inside.long(), units)
        wanted = self._share * units.sum(dim=1, keepdim=True)
        ends = (units.cumsum(dim=1) > wanted) & inside
        ends[:, :1] = False  # the most probable token stays
        kept = (ends.cumsum(dim=1) == 0).sum(dim=1, keepdim=True).clamp(min=1)
        least = torch.where(ends.any(dim=1, keepdim=True), ordered.gather(1, kept - 1), 0.0)
        return probabilities < least
