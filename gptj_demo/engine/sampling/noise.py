"""The random numbers of a draw: a function of seed, position and token id, and of nothing else.

The generator is SplitMix64 (Steele, Lea and Flood 2014). Its n-th output is a hash of the seed and
n, so it is computed without those before it. Three generators are nested: the seed of a request
selects an output of the generator of the stream, the position in the sequence selects an output of
that one, and the token id an output of the third. The integers are the same in numpy, in compiled
code and in torch on any device.

Tokens are drawn by the Gumbel-max trick in its exponential form: the token with the smallest
-log(u) / weight is the one with the largest log(weight) + Gumbel noise. The noise of a token does
not depend on the other tokens, so a small change of the logits seldom changes the token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

DRAW, XTC = 0, 1  # streams: independent numbers for different purposes

GAMMA = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)

BITS = 52
"""Bits of a uniform. (n + 0.5) / 2**52 is exact in fp64 and lies strictly between 0 and 1."""

_MASK = 2**64 - 1


def output(seed: int, index: int) -> int:
    """Output `index` of SplitMix64, from 0, in 64 bits."""
    z = (seed + (index + 1) * GAMMA) & _MASK
    z = ((z ^ (z >> SHIFTS[0])) * FACTORS[0]) & _MASK
    z = ((z ^ (z >> SHIFTS[1])) * FACTORS[1]) & _MASK
    return z ^ (z >> SHIFTS[2])


def request_key(seed: int, stream: int) -> int:
    """The generator of a request's seed: its outputs are the keys of the positions."""
    return output(stream, seed)


def position_keys(request_keys: np.ndarray, positions: Sequence[int]) -> np.ndarray:
    """The generators of the positions, uint64 [rows]: their outputs belong to token ids.

    `request_keys` is uint64 [rows], of the stream of draws.
    """
    index = np.array(positions, dtype=np.uint64) + np.uint64(1)
    z = request_keys + index * np.uint64(GAMMA)
    z = (z ^ (z >> np.uint64(SHIFTS[0]))) * np.uint64(FACTORS[0])
    z = (z ^ (z >> np.uint64(SHIFTS[1]))) * np.uint64(FACTORS[1])
    keys: np.ndarray = z ^ (z >> np.uint64(SHIFTS[2]))
    return keys


def uniform(number: int) -> float:
    """64 bits as a number strictly between 0 and 1."""
    return ((number >> (64 - BITS)) + 0.5) * 2.0**-BITS


def increments(vocabulary: int, device: torch.device) -> torch.Tensor:
    """What SplitMix64 adds to a key for each token id: int64 [vocabulary]."""
    index = torch.arange(1, vocabulary + 1, dtype=torch.int64, device=device)
    return index.mul_(_signed(GAMMA))


def uniforms(keys: torch.Tensor, increments: torch.Tensor) -> torch.Tensor:
    """Numbers strictly between 0 and 1 for each key and token id, fp64 [rows, vocabulary].

    `keys` is int64 [rows, 1], the bits of `position_keys`.
    """
    z = keys + increments
    for shift, factor in zip(SHIFTS[:2], FACTORS, strict=True):
        z ^= (z >> shift).bitwise_and_(2 ** (64 - shift) - 1)
        z *= _signed(factor)
    z ^= (z >> SHIFTS[2]).bitwise_and_(2 ** (64 - SHIFTS[2]) - 1)
    z = (z >> (64 - BITS)).bitwise_and_(2**BITS - 1)
    return z.double().add_(0.5).mul_(2.0**-BITS)


def draw(weights: torch.Tensor, keys: torch.Tensor, increments: torch.Tensor) -> torch.Tensor:
    """A token for each row, int64 [rows], with probability proportional to `weights`.

    `weights` is fp32 [rows, vocabulary]; a weight of 0 is never drawn.
    """
    # log(u) is negative, so the smallest -log(u) / weight is the largest of these
    return uniforms(keys, increments).log_().div_(weights).argmax(dim=1)


def _signed(number: int) -> int:
    """The int64 with the bits of a uint64."""
    return number - 2**64 if number >= 2**63 else number
