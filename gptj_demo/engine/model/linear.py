"""The matrix products of the paths in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Linear:
    """`x @ weight.T + bias`, with `weight` [out, in]."""

    least_rows = 1
    """From so many rows on, a row's result does not depend on the rows beside it."""

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

    oneDNN reorders the weight once, which makes products of few rows up to twice as fast as
    `F.linear`'s. Over packed weights it gives a row the same bits whatever the other rows and the
    number of threads are, from two rows on.
    """

    least_rows = 2

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__(torch.ops.mkldnn._reorder_linear_weight(weight, 16), bias)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, "none", [], ""
        )
        return product
