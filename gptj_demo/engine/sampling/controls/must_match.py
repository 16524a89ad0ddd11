"""Allows only tokens after which the text can still match."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.guides import Guide
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload_array


class MustMatch(Control):
    """Removes every token after which the continuation cannot match any more.

    The tokens that end a text are left exactly where it matches.
    """

    name = "must_match"
    is_binding = True

    def __init__(self, users: UsingRows) -> None:
        super().__init__(users)
        guides = (row.guide for row in users.rows)
        self._guides: list[tuple[int, Guide]] = [
            (number, guide) for number, guide in zip(users.numbers, guides, strict=True) if guide
        ]

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        return row.guide is not None

    def apply(self, logits: torch.Tensor) -> None:
        for _, guide in self._guides:
            guide.wait()
        masks = np.stack([guide.added for _, guide in self._guides])
        index, added = self.users.index, upload_array(masks, self.users.device)
        if isinstance(index, slice):
            logits.add_(added)
        else:
            logits.index_add_(0, index, added)

    def note(self, chosen: Sequence[int]) -> None:
        going = [(guide, chosen[number]) for number, guide in self._guides if not guide.ended]
        going = [(guide, token) for guide, token in going if token >= 0]
        if going:
            going[0][0].guides.advance(going)
