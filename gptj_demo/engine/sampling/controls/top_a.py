"""Top-a: a minimum probability that grows with the square of the largest one."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.control import Filter, UsingRows


class TopA(Filter):
    """BlinkDL 2022 (RWKV-LM), as in KoboldAI and text-generation-webui."""

    name = "top_a"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._factor = users.column(self.name)

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        probabilities = scaled.softmax(dim=1)
        largest = probabilities.amax(dim=1, keepdim=True)
        return probabilities < self._factor * largest.square()
