"""What a small model does between its products on the CPU: compiled, one call for all rows.

For a small model the cost of a step is dispatch: some thirty operations a layer on a few rows each.
Here they are two functions, compiled by numba: one turns queries and keys, stores keys and values,
attends and activates, the other adds to the residual stream and normalises it. Each row is worked
on by itself and reads exactly what it has, in the same order whatever the rows beside it are, so
its results are the same to the last bit in any company, and those of a prompt's token the same as
if it had been generated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import int32, njit, types
from numba.extending import intrinsic

_LOG2_E = np.float32(1.44269504)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST_EXPONENT = np.float32(-87.0)
_GELU = np.float32(2 * math.sqrt(2 / math.pi))


@intrinsic
def _as_float(typing_context: Any, bits: Any) -> Any:
    """The float32 with the bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@njit(inline="always")
def _exp(x: Any) -> Any:
    """exp for arguments up to 0, to about a unit in the last place; compiles to vectors.

    The reduction and polynomial of the Cephes library's `expf`.
    """
    x = max(x, _LEAST_EXPONENT)
    power = np.floor(x * _LOG2_E + np.float32(0.5))
    r = x - power * _LN_2_HIGH - power * _LN_2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    bits = int32((int32(power) + int32(127)) << int32(23))
    return p * _as_float(bits)  # type: ignore[call-arg]


@njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True, nogil=True)
def _attend(
    fused: Any,
    storage: Any,
    slots: Any,
    positions: Any,
    cosines: Any,
    sines: Any,
    heads: int,
    out: Any,
    scores: Any,
) -> None:
    """Everything between a layer's two products.

    `fused` [rows, 3 * d_model + d_ff] holds queries, keys, values and what the MLP activates;
    `storage` [slots, 2 * heads, context, head_dim] is the layer's part of the cache; rows are in
    the order of their positions where they share a slot. `cosines` and `sines` are
    [context, rotary_dim / 2], `out` [rows, d_model + d_ff] takes mixed values and activations,
    `scores` [context] is room to work in.
    """
    head_dim = storage.shape[3]
    d_model = heads * head_dim
    half = cosines.shape[1]
    scale = np.float32(1.0 / math.sqrt(head_dim))
    for row in range(slots.shape[0]):
        slot, position = slots[row], positions[row]
        # slices first: indices that are sums would be checked for being negative, one by one
        cosine, sine = cosines[position], sines[position]
        for head in range(2 * heads):  # queries, then keys
            turned = fused[row, head * head_dim : (head + 1) * head_dim]
            for pair in range(half):
                even, odd = turned[2 * pair], turned[2 * pair + 1]
                turned[2 * pair] = even * cosine[pair] - odd * sine[pair]
                turned[2 * pair + 1] = even * sine[pair] + odd * cosine[pair]
        for head in range(2 * heads):
            stored = storage[slot, head, position]
            at = d_model + head * head_dim
            stored[:] = fused[row, at : at + head_dim]
        length = position + 1
        for head in range(heads):
            query = fused[row, head * head_dim : (head + 1) * head_dim]
            keys, values = storage[slot, head], storage[slot, heads + head]
            peak = np.float32(-np.inf)
            for j in range(length):
                total = np.float32(0.0)
                for i in range(head_dim):
                    total += query[i] * keys[j, i]
                total *= scale
                scores[j] = total
                peak = max(peak, total)
            mass = np.float32(0.0)
            for j in range(length):
                weight = _exp(scores[j] - peak)
                scores[j] = weight
                mass += weight
            mixed = out[row, head * head_dim : (head + 1) * head_dim]
            mixed[:] = 0.0
            for j in range(length):
                weight = scores[j]
                for i in range(head_dim):
                    mixed[i] += weight * values[j, i]
            inverse = np.float32(1.0) / mass
            for i in range(head_dim):
                mixed[i] *= inverse
        # gelu as GPT-J has it (tanh): x * sigmoid(2 u), by an exponential of what is not positive
        entering, activated = fused[row, 3 * d_model :], out[row, d_model:]
        for i in range(entering.shape[0]):
            x = entering[i]
            u = _GELU * (x + np.float32(0.044715) * x * x * x)
            e = _exp(-abs(u))
            activated[i] = x * (np.float32(1.0) if u > 0 else e) / (np.float32(1.0) + e)


@njit(fastmath={"reassoc", "contract", "nsz"}, error_model="numpy", cache=True, nogil=True)
def _add_norm(hidden: Any, added: Any, weight: Any, bias: Any, epsilon: float, normed: Any) -> None:
    """hidden += added; normed = layer_norm(hidden): all [rows, d_model]."""
    d_model = hidden.shape[1]
    for row in range(hidden.shape[0]):
        total = np.float32(0.0)
        for i in range(d_model):
            hidden[row, i] += added[row, i]
            total += hidden[row, i]
        mean = total / np.float32(d_model)
        squares = np.float32(0.0)
        for i in range(d_model):
            difference = hidden[row, i] - mean
            squares += difference * difference
        scale = np.float32(1.0) / np.float32(
            math.sqrt(squares / np.float32(d_model) + np.float32(epsilon))
        )
        for i in range(d_model):
            normed[row, i] = (hidden[row, i] - mean) * scale * weight[i] + bias[i]


class Step(NamedTuple):
    """The arrays of one step; rows of zeros below the tokens may fill a product up.

    `joined` [rows, d_model + d_ff] is what the second product of each layer reads.
    """

    hidden: np.ndarray
    normed: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    joined: torch.Tensor
    joined_tokens: np.ndarray


class CompiledLayers:
    """The compiled functions with what they need of a model.

    `rotation` is complex64 [context, rotary_dim / 2]; `norms` are weight and bias of each layer's
    norm and of the last one.
    """

    def __init__(
        self,
        heads: int,
        d_ff: int,
        rotation: torch.Tensor,
        norms: Sequence[tuple[torch.Tensor, torch.Tensor]],
        epsilon: float,
    ) -> None:
        self._heads, self._d_ff, self._epsilon = heads, d_ff, epsilon
        self._cosines = rotation.real.contiguous().numpy()
        self._sines = rotation.imag.contiguous().numpy()
        self._norms = [(weight.numpy(), bias.numpy()) for weight, bias in norms]
        self._scores = np.empty(rotation.shape[0], dtype=np.float32)

    def begin(
        self,
        hidden: torch.Tensor,
        normed: torch.Tensor,
        slots: torch.Tensor,
        positions: torch.Tensor,
    ) -> Step:
        """The step that works on `hidden` and `normed` [rows, d_model] in place."""
        rows, d_model = hidden.shape
        joined = torch.zeros(rows, d_model + self._d_ff)
        return Step(
            hidden.numpy(),
            normed.numpy(),
            slots.numpy(),
            positions.numpy(),
            joined,
            joined.numpy()[: len(slots)],
        )

    def attend(self, step: Step, storage: torch.Tensor, fused: torch.Tensor) -> None:
        """From a layer's first product to what its second one reads, `step.joined`."""
        _attend(
            fused.numpy(),
            storage.numpy(),
            step.slots,
            step.positions,
            self._cosines,
            self._sines,
            self._heads,
            step.joined_tokens,
            self._scores,
        )

    def add_norm(self, step: Step, norm: int, added: torch.Tensor) -> None:
        """Add a layer's result to the residual stream, and normalise it for the next layer."""
        weight, bias = self._norms[norm]
        _add_norm(step.hidden, added.numpy(), weight, bias, self._epsilon, step.normed)
