"""Rotary position embedding (Su et al. 2021) as GPT-J has it.

GPT-J pairs dimensions 2i and 2i + 1 of the first `rotary_dim` dimensions of a head. That is the
memory layout of complex numbers, so a rotation is a product with cos + i sin.
"""

from __future__ import annotations

import torch


def rotation_table(context_length: int, rotary_dim: int) -> torch.Tensor:
    """cos + i sin for each position and pair: complex64 [context_length, rotary_dim / 2]."""
    pairs = torch.arange(0, rotary_dim, 2, dtype=torch.int64) / rotary_dim
    angles = torch.arange(context_length, dtype=torch.int64).float()[:, None] * (1.0 / 10000**pairs)
    return torch.complex(angles.cos(), angles.sin())


def rotate(x: torch.Tensor, rotation: torch.Tensor) -> None:
    """Rotate x [tokens, heads, rotary_dim] in place; `rotation` is [tokens, 1, rotary_dim / 2]."""
    pairs = torch.view_as_complex(x.float().contiguous().view(*x.shape[:-1], -1, 2))
    x.copy_(torch.view_as_real(pairs * rotation).flatten(-2))


def rotate_aligned(x: torch.Tensor, rotation: torch.Tensor) -> None:
    """`rotate` without copies, for fp32 with every pair at an even offset in memory."""
    torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(rotation)
