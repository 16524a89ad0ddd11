"""The smallest value that a filter keeps, found without sorting and without a wait for the device.

Weights are summed as integers, so a sum does not depend on the order of its terms. On a processor
compiled code does the same row by row with fp64 sums; typical-p then takes half the time.
"""

from __future__ import annotations

import torch

from gptj_demo.engine.sampling.numba_code import compiled_code

_UNIT = 2**40
"""Weights are counted in units of 2**-40: the sum over 2**22 tokens fits in 63 bits."""
_DIGIT = 11
_SHIFTS = (22, 11, 0)  # three digits of 11 bits hold the 32 bits of a float
_BINS = 2**_DIGIT + 2  # one for each value of a digit, one for smaller and one for larger numbers


def smallest_kept(values: torch.Tensor, weights: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The largest value that, with all larger ones, has `share` of the total weight: [rows, 1].

    `values` and `weights` are fp32 [rows, vocabulary], the weights between 0 and 1; `share` is fp32
    [rows, 1]. At least one token is kept. It is a radix selection: a histogram of the weights by
    the upper bits of the values gives the upper bits of the result, and so on for the other bits.
    """
    if compiled := compiled_code(values.device):
        kept = torch.empty_like(share)
        compiled.smallest_kept(values.numpy(), weights.numpy(), share.numpy(), kept.numpy())
        return kept
    keys = _ordered(values).long()  # [rows, vocabulary]
    units = (weights * _UNIT).long()
    total = units.sum(dim=1, keepdim=True)
    # fp64 has 53 bits: a total above 2**53 is rounded, by 2**-53 of it
    wanted = (total * share.double()).ceil().long().minimum(total).clamp(min=1)
    found = torch.full_like(total, -(2**31))  # the number, as far as its bits are known
    bins = torch.empty_like(units)  # used three times: a new tensor costs more than the work on it
    for shift in _SHIFTS:
        torch.sub(keys, found, out=bins)
        bins.bitwise_right_shift_(shift).clamp_(-1, _BINS - 2).add_(1)
        histogram = units.new_zeros(len(units), _BINS).scatter_add_(1, bins, units)
        reached = histogram.flip(1).cumsum(dim=1).flip(1)  # with all larger numbers
        last = (reached >= wanted).sum(dim=1, keepdim=True).sub_(2).clamp_(min=0)
        found += last << shift
    return _number(found)


def _ordered(values: torch.Tensor) -> torch.Tensor:
    """Integers in the order of fp32 numbers: int32, of the same shape."""
    bits = values.view(torch.int32)
    return (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)


def _number(ordered: torch.Tensor) -> torch.Tensor:
    """The fp32 numbers of `_ordered`, given as any integers."""
    bits = ordered.int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)
