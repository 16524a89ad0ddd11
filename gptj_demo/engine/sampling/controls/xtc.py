"""XTC: exclude top choices."""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling import noise
from gptj_demo.engine.sampling.control import Filter, UsingRows
from gptj_demo.engine.transfer import upload


class Xtc(Filter):
    """p-e-w, text-generation-webui 6335: see the definition of `xtc_probability`."""

    name = "xtc_probability"

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        self._threshold = users.column("xtc_threshold")
        self._keys = [noise.request_key(row.seed, noise.XTC) for row in users.rows]

    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        acts = upload(self._acts(), torch.bool, self.users.device)[:, None]
        obvious = (scaled.softmax(dim=1) >= self._threshold) & (scaled > -torch.inf)
        least = scaled.masked_fill(~obvious, torch.inf).amin(dim=1, keepdim=True)
        return obvious & (scaled > least) & acts

    def _acts(self) -> list[bool]:
        """Whether it acts on the next token of each row, by a random number in (0, 1)."""
        acts = []
        for row, key in zip(self.users.rows, self._keys, strict=True):
            position = noise.output(key, row.next_position)
            acts.append(noise.uniform(noise.output(position, 0)) < row.params.xtc_probability)
        return acts
