"""The base of the controls: objects that change the logits of the rows of a batch that use them.

A control is one class in `sampling/controls/`, found there by its name, and one row of the table in
`gptj_demo/sampling.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.transfer import upload
from gptj_demo.sampling import control_named

Rows = slice | torch.Tensor  # some rows of a batch


class UsingRows:
    """The rows of a batch that use a control; `numbers` are their places in the batch."""

    def __init__(
        self,
        batch: Sequence[RowSampler],
        numbers: Sequence[int],
        vocabulary: int,
        device: torch.device,
    ) -> None:
        self.numbers = list(numbers)
        self.rows = [batch[number] for number in numbers]
        self.vocabulary = vocabulary
        self.device = device
        self.index = index_of(numbers, len(batch), device)

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, name: str) -> list[Any]:
        """The rows' values of a control."""
        return [getattr(row.params, name) for row in self.rows]

    def column(self, name: str) -> torch.Tensor:
        """The same on the device: fp32 [rows, 1]."""
        return upload(self.values(name), torch.float32, self.device)[:, None]

    def stack(self, name: str, make: Callable[[RowSampler], torch.Tensor]) -> torch.Tensor:
        """Stack the tensors that the rows hold on the device under a name: [rows, ...].

        Each row then holds a view of the stack, so changes to the stack are kept when the row joins
        another batch. `make` makes the tensor of a row that holds none yet.
        """
        held = [row.held[name] if name in row.held else make(row) for row in self.rows]
        stacked = torch.stack(held)
        for row, view in zip(self.rows, stacked, strict=True):
            row.held[name] = view
        return stacked


class Control(ABC):
    """One control, as it works on the rows of a batch that use it."""

    name: ClassVar[str]
    """Its name in the table."""
    may_empty: ClassVar[bool] = False
    """Whether it can remove all tokens of a row."""
    is_binding: ClassVar[bool] = False
    """Whether it holds even in a row that the controls have emptied."""
    keeps_state: ClassVar[bool] = False
    """Whether it depends on how probable the earlier tokens were when they were drawn; a resumed
    row has that in `resumed_logprobs`."""

    def __init__(self, users: UsingRows) -> None:
        self.users = users

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        """Whether the control does anything to a row."""
        return bool(getattr(row.params, cls.name) != control_named(cls.name).off)

    @abstractmethod
    def apply(self, logits: torch.Tensor) -> None:
        """Change the users' rows of `logits`, fp32 [batch, vocabulary], in place."""

    def observe(self, tokens: torch.Tensor, scaled: torch.Tensor | None) -> None:  # noqa: B027
        """Take note of the chosen `tokens`, int64 [batch], still on the device.

        `scaled` is what they were drawn from, fp32 [batch, vocabulary]; None where no row has
        filters of its own.
        """

    def note(self, chosen: Sequence[int]) -> None:  # noqa: B027
        """Take note of the tokens that were chosen for all rows, -1 where there is none."""


class Filter(Control):
    """A control that removes tokens by their scaled logits."""

    @abstractmethod
    def removes(self, scaled: torch.Tensor) -> torch.Tensor:
        """The tokens to remove, bool [users, vocabulary], by the logits `scaled` of the same shape.

        Never all tokens of a row.
        """

    def apply(self, logits: torch.Tensor) -> None:
        """Give the tokens that are removed a logit of -inf."""
        index = self.users.index
        if isinstance(index, slice):
            logits.masked_fill_(self.removes(logits), -torch.inf)
        else:
            part = logits[index]
            logits[index] = part.masked_fill_(self.removes(part), -torch.inf)


def index_of(numbers: Sequence[int], count: int, device: torch.device) -> Rows:
    """An index for some rows of a batch: a slice, which copies nothing, where it is all of them."""
    if len(numbers) == count:
        return slice(None)
    return upload(numbers, torch.int64, device)
