"""Logits divided by the temperature."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows

LOWEST = 1e-30
"""Lower temperatures, by which fp32 may be unable to divide, are raised to this one: both give the
most probable token."""


class Temperature(Control):
    """As transformers' TemperatureLogitsWarper; rows with a temperature of 0 are greedy."""

    name = "temperature"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._temperature = users.column(self.name).clamp_(min=LOWEST)

    def apply(self, logits: torch.Tensor) -> None:
        logits[self.users.index] /= self._temperature
