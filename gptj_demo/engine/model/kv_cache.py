"""Keys and values of all streams, in slots of one full context each, allocated once."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable

import torch

Allocate = Callable[[tuple[int, ...]], torch.Tensor]
"""Returns zeros of the given shape."""


def allocate_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros in main memory, allocated on first write; torch's zeros would write every page."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class KVCache:
    """`max_streams` slots of `context_length` positions; `storage` is
    [layers, slots, 2 * heads, context, head_dim], keys before values.

    The positions of a head lie in a row, so attention reads exactly the filled part of each slot,
    as a view, with no gather; in long slots that takes half the time of a layout with the heads of
    a position in a row.
    """

    def __init__(
        self,
        *,
        layers: int,
        max_streams: int,
        context_length: int,
        heads: int,
        head_dim: int,
        allocate: Allocate,
    ) -> None:
        self.max_streams = max_streams
        self.context_length = context_length
        self._heads = heads
        # the heads of the keys, then those of the values, so that one operation writes both; zeros,
        # because rows that attend together read up to the longest of them, and what lies beyond a
        # row's own length is masked, which would not help against a NaN
        self.storage = allocate((layers, max_streams, 2 * heads, context_length, head_dim))

    def write(
        self, layer: int, slots: torch.Tensor, positions: torch.Tensor, keys_values: torch.Tensor
    ) -> None:
        """Store one position in each of `slots`: `keys_values` is [rows, 2 * heads, head_dim]."""
        self.storage[layer][slots, :, positions] = keys_values

    def write_range(self, layer: int, slot: int, start: int, keys_values: torch.Tensor) -> None:
        """Store consecutive positions of one slot: `keys_values` [length, 2 * heads, head_dim]."""
        end = start + keys_values.shape[0]
        self.storage[layer, slot, :, start:end] = keys_values.transpose(0, 1)

    def read(
        self, layer: int, first_slot: int, slots: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of neighbouring slots: views, [slots, heads, length, head_dim] each."""
        part = self.storage[layer, first_slot : first_slot + slots, :, :length]
        return part[:, : self._heads], part[:, self._heads :]

    def copy(self, source: int, target: int, length: int) -> None:
        """Give `target` the first `length` positions of the slot `source`."""
        self.storage[:, target, :, :length] = self.storage[:, source, :, :length]

    def clear(self, slot: int, length: int) -> None:
        """Forget the first positions of a slot: a mask would not keep not-a-numbers out."""
        self.storage[:, slot, :, :length].zero_()
