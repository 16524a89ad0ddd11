"""Temperature, top-k, top-p and min-p by compiled code, where the model runs on a processor.

Most requests use only these controls. One compiled call applies them to all rows and draws. With
top-p 0.95 and 50,400 ids, 32 rows take 16 ms on one core of an EPYC; the classes in `controls/`
take 100 ms. Rows that apply these controls in another order use the classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gptj_demo.engine.sampling.controls.temperature import LOWEST
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.trace import Trace
from gptj_demo.sampling import control_named

EVERYDAY = ("temperature", "top_k", "top_p", "min_p")
"""The controls, in the order in which the compiled code applies them."""


class Everyday:
    """The everyday controls of the rows of a batch, and the draw of all its rows."""

    def __init__(
        self, compiled: ModuleType, rows: Sequence[RowSampler], numbers: Sequence[int]
    ) -> None:
        """`numbers` are the rows of the batch that use them in their usual order."""
        self._compiled = compiled
        count = len(rows)
        using = set(numbers)

        def values(name: str) -> list[Any]:
            off = control_named(name).off
            return [
                getattr(row.params, name) if number in using else off
                for number, row in enumerate(rows)
            ]

        temperatures = [max(value, LOWEST) for value in values("temperature")]
        self._greedy = np.array([row.greedy for row in rows])
        self._temperature = np.array(temperatures, "f4")
        self._top_k = np.array([value or 2**31 - 1 for value in values("top_k")], "i8")
        self._top_p = np.array(values("top_p"), "f4")
        self._log_min_p = np.array(
            [math.log(value) if value else -math.inf for value in values("min_p")], "f4"
        )
        self._neutral = (
            np.where(self._greedy, 0, 1).astype("f4"),
            np.full(count, 2**31 - 1, "i8"),
            np.ones(count, "f4"),
            np.full(count, -math.inf, "f4"),
        )
        self._used = {
            "top_k": any(values("top_k")),
            "top_p": min(values("top_p")) < 1,
            "min_p": any(values("min_p")),
        }
        self._any_temperature = any(value != 1 for value in temperatures)

    def apply(self, logits: torch.Tensor, trace: Trace | None) -> torch.Tensor:
        """The scaled logits, -inf where a token is removed; `logits` itself if nothing changes.

        `logits` is fp32 [rows, vocabulary] and stays as it is.
        """
        scaled = logits
        if self._any_temperature:
            scaled = logits / torch.from_numpy(self._temperature)[:, None]
        if not any(self._used.values()):
            return scaled
        limits = torch.empty(3, len(scaled))
        self._compiled.thresholds(
            scaled.contiguous().numpy(), self._top_k, self._top_p, self._log_min_p, limits.numpy()
        )
        if trace is not None:
            for name, threshold in zip(self._used, limits, strict=True):
                trace.note_below(name, scaled, threshold[:, None])
        return scaled.masked_fill(scaled < limits.amax(dim=0)[:, None], -torch.inf)

    def apply_and_draw(
        self, logits: torch.Tensor, vocabulary: int, keys: np.ndarray
    ) -> torch.Tensor:
        """Apply the controls and draw: int64 [rows]; greedy rows take the most probable token.

        `logits` is fp32 [rows, vocabulary or more], `keys` is uint64 [rows].
        """
        temperature = np.where(self._greedy, np.float32(0), self._temperature)
        limits = (temperature, self._top_k, self._top_p, self._log_min_p)
        return self._draw(logits, limits, vocabulary, keys)

    def draw(self, scaled: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Draw in the same way from the logits after all filters, fp32 [rows, vocabulary]."""
        return self._draw(scaled, self._neutral, scaled.shape[1], keys)

    def _draw(
        self, logits: torch.Tensor, limits: Sequence[np.ndarray], vocabulary: int, keys: np.ndarray
    ) -> torch.Tensor:
        tokens = torch.empty(len(logits), dtype=torch.int64)
        self._compiled.draw(logits.contiguous().numpy(), *limits, keys, vocabulary, tokens.numpy())
        return tokens
