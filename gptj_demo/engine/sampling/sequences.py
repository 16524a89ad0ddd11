"""Controls that change a few logits depending on the tokens so far, which the host keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gptj_demo.engine.sampling.control import Control, UsingRows
from gptj_demo.engine.sampling.histories import History
from gptj_demo.engine.transfer import upload

Places = tuple[tuple[torch.Tensor, ...], torch.Tensor]  # (rows, tokens), and values to add there


class SequenceControl(Control):
    """A control that adds the changes of its users' histories to the logits."""

    def __init__(self, users: UsingRows, histories: Sequence[tuple[int, History]]) -> None:
        """`histories` are the histories of rows, each with the row's number in the batch."""
        super().__init__(users)
        self._histories = histories

    def apply(self, logits: torch.Tensor) -> None:
        changes = [
            (number, token_id, value)
            for number, history in self._histories
            for token_id, value in history.changes()
        ]
        if changes:
            add_to(logits, places_of(changes, self.users.device))


def places_of(changes: Sequence[tuple[int, int, float]], device: torch.device) -> Places:
    """(row, token, value)s as `add_to` takes them."""
    places = upload([change[:2] for change in changes], torch.int64, device).unbind(1)
    return places, upload([change[2] for change in changes], torch.float32, device)


def add_to(logits: torch.Tensor, places: Places) -> None:
    """Add values to single logits, in place."""
    logits.index_put_(*places, accumulate=True)
