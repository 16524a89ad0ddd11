"""Tensors of a checkpoint that are read, or computed from others, when they are needed.

A value is a tensor (mapped from a `.bin`), a part of a safetensors file, or a `Computed`. All are
read by indexing with `...`, which is what transformers does with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import EllipsisType
from typing import Any

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Types that weights can have, by their names in safetensors files."""

_CODES = {"I8": torch.int8, "U8": torch.uint8}  # of 8-bit checkpoints


class Computed(ABC):
    """A tensor that is computed each time it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @abstractmethod
    def compute(self) -> torch.Tensor:
        """The tensor, in memory of its own."""

    def __getitem__(self, index: EllipsisType) -> torch.Tensor:
        return self.compute()


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a value."""
    return tuple(value.shape if isinstance(value, torch.Tensor | Computed) else value.get_shape())


def dtype_of(value: Any) -> torch.dtype | None:
    """The type of a value; None for types that no checkpoint of the family has."""
    if isinstance(value, torch.Tensor | Computed):
        return value.dtype
    return (DTYPES | _CODES).get(value.get_dtype())


def read(value: Any) -> torch.Tensor:
    """The tensor that a value stands for."""
    tensor: torch.Tensor = value[...]
    return tensor


def own_float32(value: Any) -> torch.Tensor:
    """The tensor in float32, in memory that the caller may change."""
    return read(value).to(torch.float32, copy=True)
