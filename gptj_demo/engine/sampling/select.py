"""The smallest value that a filter keeps, found without sorting and without a wait for the device.

Weights are summed as integers, so a sum does not depend on the order of its terms: it is the same
on every device and in any company.
"""

from __future__ import annotations

import torch

_UNIT = 2**40
"""Weights are counted in units of 2**-40: the sum over 2**22 tokens fits in 63 bits."""
_DIGIT = 11
_SHIFTS = (22, 11, 0)  # three digits of 11 bits hold the 32 bits of a float


def smallest_kept(values: torch.Tensor, weights: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The largest number whose weight, with that of all larger ones, is `share` of all: [rows, 1].

    `values` and `weights` are fp32 [rows, vocabulary], the weights between 0 and 1; `share` is
    fp32 [rows, 1]. At least one token is kept. It is a radix selection: a histogram of the weights
    by the upper bits of the values says which upper bits the number has, and so on for the others.
    """
    keys = _ordered(values)  # int64 [rows, vocabulary]
    units = (weights * _UNIT).long()
    total = units.sum(dim=1, keepdim=True)
    # fp64 has 53 bits: of a total above 2**53 the last ones are rounded, 2**-53 of it
    wanted = (total * share.double()).ceil().long().minimum(total).clamp(min=1)
    found = torch.zeros_like(total)  # the upper bits
    above = torch.zeros_like(total)  # the weight of all numbers whose upper bits are larger
    for shift in _SHIFTS:
        inside = (keys >> (shift + _DIGIT)) == found
        digits = (keys >> shift) & (2**_DIGIT - 1)
        histogram = units.new_zeros(len(units), 2**_DIGIT)
        histogram.scatter_add_(1, digits, units * inside)
        reached = histogram.flip(1).cumsum(dim=1).flip(1) + above  # by this digit and larger ones
        digit = (reached >= wanted).sum(dim=1, keepdim=True).sub_(1).clamp_(min=0)
        above = (reached - histogram).gather(1, digit)
        found = (found << _DIGIT) | digit
    return _number(found)


def _ordered(values: torch.Tensor) -> torch.Tensor:
    """Integers from 0 to 2**32 - 1 in the order of fp32 numbers: int64, of the same shape."""
    bits = values.view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long().add_(2**31)


def _number(ordered: torch.Tensor) -> torch.Tensor:
    """The fp32 numbers of `_ordered`."""
    bits = (ordered - 2**31).int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)
