"""Keys and values of all streams, in pages of a few positions, allocated once."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Sequence

import torch

from gptj_demo.engine.transfer import upload
from gptj_demo.pages import PAGE_TOKENS, page_count

MOST_GATHERED = 8192
"""Positions that are gathered at a time where rows attend together: 0.3 GB of GPT-J in 16 bits."""

Allocate = Callable[[tuple[int, ...]], torch.Tensor]
"""Returns zeros of the given shape."""


def allocate_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Zeros in main memory, allocated on first write; torch's zeros would write every page."""
    pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    return torch.frombuffer(pages, dtype=dtype).view(shape)


class KVCache:
    """Pages of `PAGE_TOKENS` positions, and for each slot a table of its pages.

    `storage` is [layers, 2 * heads, pages, PAGE_TOKENS, head_dim], keys before values: a head's
    neighbouring pages are neighbours in memory, so pages that a slot got together are read as one
    run. `tables` is int64 [slots, pages of a context + 1]: the page of each `PAGE_TOKENS` positions
    of a slot. Slots may share pages (Kwon et al. 2023). Page 0 belongs to no slot: a table names it
    where a slot has no page. It never holds NaN, because rows that attend together read up to the
    longest of them.
    """

    def __init__(
        self,
        *,
        layers: int,
        max_num_seqs: int,
        context_length: int,
        heads: int,
        head_dim: int,
        allocate: Allocate,
        device: torch.device,
        max_tokens: int | None = None,
    ) -> None:
        """With `max_tokens` the slots have no pages yet; else each has the pages of a context."""
        self.max_num_seqs = max_num_seqs
        self.context_length = context_length
        self._heads = heads
        self._device = device
        each = page_count(context_length)
        self.pages = max_num_seqs * each if max_tokens is None else max_tokens // PAGE_TOKENS
        """The number of pages, without page 0."""
        # the heads of the keys, then those of the values, so that one operation writes both
        self.storage = allocate((layers, 2 * heads, 1 + self.pages, PAGE_TOKENS, head_dim))
        self.tables = torch.zeros(max_num_seqs, each + 1, dtype=torch.int64, device=device)
        if max_tokens is None:
            self.tables[:, :-1] = torch.arange(1, 1 + self.pages, device=device).view(-1, each)

    def place(self, slot: int, pages: Sequence[int], copied: tuple[int, int] | None = None) -> None:
        """Give a slot its pages, in the order of its positions; copy a page to another one."""
        if copied is not None:
            source, target = copied
            self.storage[:, :, target] = self.storage[:, :, source]
        row = [*pages, *[0] * (self.tables.shape[1] - len(pages))]
        self.tables[slot] = upload(row, torch.int64, self._device)

    def write(
        self, layer: int, slots: torch.Tensor, positions: torch.Tensor, keys_values: torch.Tensor
    ) -> None:
        """Store one position of each of `slots`: `keys_values` is [rows, 2 * heads, head_dim]."""
        pages = self.tables[slots, positions // PAGE_TOKENS]
        self.storage[layer][:, pages, positions % PAGE_TOKENS] = keys_values.transpose(0, 1)

    def read(
        self, layer: int, slots: torch.Tensor, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of the slots' keys and values, [rows, heads, length, head_dim] each."""
        return gather(self.storage[layer], self.tables, slots, length)

    def clear(self, page: int) -> None:
        """Fill a page with zeros: an attention mask would not keep NaN out."""
        self.storage[:, :, page].zero_()


def gather(
    stored: torch.Tensor, tables: torch.Tensor, slots: torch.Tensor, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Copies of keys and values from one layer `stored`, [rows, heads, length, head_dim] each."""
    # [2 * heads, rows, pages, PAGE_TOKENS, head_dim]
    pages = stored[:, tables[slots, : page_count(length)]]
    rows = pages.flatten(2, 3)[:, :, :length].transpose(0, 1)
    heads = stored.shape[0] // 2
    return rows[:, :heads], rows[:, heads:]
