"""Keys and values of all streams, in slots of one full context each, allocated once."""

from __future__ import annotations

import torch


class KVCache:
    """`max_streams` slots of `context_length` positions.

    Keys and values of a position lie side by side, so that one copy writes both, and the positions
    of a slot lie in a row, so that attention reads exactly the filled part of it, with no gather.
    On the CPU untouched slots cost no memory: the system hands pages out when they are written.
    """

    def __init__(
        self,
        *,
        layers: int,
        max_streams: int,
        context_length: int,
        heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.max_streams = max_streams
        self.context_length = context_length
        # never read before it is written: attention ends at a slot's length
        self.storage = torch.empty(
            (layers, max_streams, context_length, 2, heads, head_dim), dtype=dtype, device=device
        )
        width = 2 * heads * head_dim
        self._flat = [layer.view(max_streams * context_length, width) for layer in self.storage]

    def write(self, layer: int, index: torch.Tensor, keys_values: torch.Tensor) -> None:
        """Store `keys_values` [tokens, 2 * d_model] at `index` [tokens] = slot * context + position."""
        self._flat[layer].index_copy_(0, index, keys_values)

    def read(
        self, layer: int, first_slot: int, slots: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of neighbouring slots, as views: [slots, heads, length, head_dim] each."""
        part = self.storage[layer, first_slot : first_slot + slots, :length]
        keys, values = part.unbind(2)
        return keys.transpose(1, 2), values.transpose(1, 2)
