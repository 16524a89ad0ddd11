"""The matmuls of the paths in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Linear:
    """`x @ weight.T + bias`, with `weight` [out, in]."""

    least_rows = 1
    """With at least this many rows, a row's result does not depend on the other rows."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] -> [rows, out], in x's dtype."""
        return F.linear(x, self.weight, self.bias)

    def widened(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] -> fp32 [rows, out]."""
        return self(x).float()


class PackedLinear(Linear):
    """The same in fp32 by oneDNN, on a processor.

    oneDNN packs the weight once, which makes matmuls of few rows up to twice as fast as
    `F.linear`. From two rows on, a row's bits do not depend on the other rows or on the number of
    threads.
    """

    least_rows = 2

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__(torch.ops.mkldnn._reorder_linear_weight(weight, 16), bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, "none", [], ""
        )
        return product
