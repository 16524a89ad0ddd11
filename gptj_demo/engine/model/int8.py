"""Matmuls with int8 weights and one scale per row.

The weights are bitsandbytes' LLM.int8 codes (`CB`, `SCB`; weight = CB * SCB / 127). Activations
keep 16 bits, so no outlier columns are separated, and the result is closer to full precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from typing_extensions import Self

# Up to this many rows torch's int8 kernel is faster; beyond, a 16-bit product of widened weights.
# GPT-J 6B's q, k, v, fc_in on two cores: 6 against 130 ms at one row, 60 against 99 at 32, 116 each
# at 64.
_ROWS_OF_BYTE_KERNEL = 48


_ROWS_TO_QUANTIZE = 1024  # at a time, so that temporaries take little memory


def quantize(weight: torch.Tensor, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """LLM.int8's codes of a weight [out, in]: int8 [out, in], and fp32 [out], the largest absolute
    value of each row, which has the code 127. Both are computed on `device`."""
    codes = torch.empty(weight.shape, dtype=torch.int8, device=device)
    largest = torch.empty(weight.shape[0], device=device)
    for begin in range(0, len(largest), _ROWS_TO_QUANTIZE):
        # copies fp32 weights too: they may be mapped from a file, and are scaled in place below
        part = weight[begin : begin + _ROWS_TO_QUANTIZE].to(device, torch.float32, copy=True)
        most = torch.linalg.vector_norm(part, torch.inf, dim=1)
        # rows of zeros stay zeros
        part *= (127.0 / most.clamp(min=torch.finfo(most.dtype).tiny))[:, None].clamp(max=1e38)
        codes[begin : begin + _ROWS_TO_QUANTIZE] = part.round_()
        largest[begin : begin + _ROWS_TO_QUANTIZE] = most
    return codes, largest


class BitsAndBytesWeight(Protocol):
    """The weight of a loaded `bitsandbytes.nn.Linear8bitLt`."""

    CB: torch.Tensor | None
    SCB: torch.Tensor | None
    data: torch.Tensor


class Int8Linear:
    """`x @ weight.T + bias` on a CPU: int8 `weight` [out, in], fp32 `scale` [out]."""

    def __init__(
        self, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        self.weight, self.scale, self.bias = weight, scale, bias

    @classmethod
    def from_bitsandbytes(cls, *linears: torch.nn.Module) -> Self:
        """Several `Linear8bitLt` with the same input, as one matmul."""
        weights, scales, biases = [], [], []
        for linear in linears:
            weight = cast(BitsAndBytesWeight, linear.weight)
            quantized = weight.data if weight.CB is None else weight.CB
            if quantized.dtype != torch.int8 or weight.SCB is None:
                raise TypeError(f"{type(linear).__name__} holds no 8-bit weight")
            weights.append(quantized)
            scales.append(weight.SCB.float() / 127)
            bias = linear.bias
            out = quantized.shape[0]
            biases.append(
                bias.data if isinstance(bias, torch.Tensor) else quantized.new_zeros(out).float()
            )
        one = len(linears) == 1
        return cls(
            (weights[0] if one else torch.cat(weights)).contiguous(),
            torch.cat(scales),
            torch.cat([bias.float() for bias in biases]),
        )

    @classmethod
    def pair(cls, attention: Int8Linear, mlp: Int8Linear) -> Int8Pair:
        """The two matmuls whose results a layer adds to the residual stream."""
        return Int8Pair(attention, mlp)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] -> [rows, out], in x's dtype."""
        if x.shape[0] <= _ROWS_OF_BYTE_KERNEL:
            product = torch.ops.aten._weight_int8pack_mm(x, self.weight, self.scale.to(x.dtype))
        else:
            product = F.linear(x, self.weight.to(x.dtype)) * self.scale
        if self.bias is not None:
            product = product + self.bias
        return cast(torch.Tensor, product.to(x.dtype))


@dataclass(frozen=True, slots=True)
class Int8Pair:
    """The two matmuls that a layer adds to the residual stream; their rows' scales differ."""

    attention: Int8Linear
    mlp: Int8Linear

    def __call__(self, mixed: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        """[rows, d_model] and [rows, d_ff] -> [rows, d_model]."""
        return self.attention(mixed) + self.mlp(activated)
