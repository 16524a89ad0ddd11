"""The operations of the compiled paths between two products: exponentials, norms, rotation,
activation, and storing keys and values in the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int32, njit, types
from numba.extending import intrinsic, overload

from gptj_demo.engine.model.cpu.exact import multiply_add, sum_of, sum_of_squares
from gptj_demo.engine.model.cpu.vectors import as_float
from gptj_demo.engine.numba_cache import cached_njit
from gptj_demo.pages import PAGE_TOKENS

_LOG2_E = np.float32(1.44269504)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST_EXPONENT = np.float32(-87.0)
_GELU = np.float32(2 * math.sqrt(2 / math.pi))


@njit(inline="always")
def exp(x: Any) -> Any:
    """exp for arguments up to 0, to about a unit in the last place; compiles to vectors.

    The reduction and polynomial of the Cephes library's `expf`.
    """
    x = max(x, _LEAST_EXPONENT)
    power = np.floor(multiply_add(x, _LOG2_E, np.float32(0.5)))
    r = multiply_add(-power, _LN_2_LOW, multiply_add(-power, _LN_2_HIGH, x))
    p = multiply_add(np.float32(1.9875691500e-4), r, np.float32(1.3981999507e-3))
    p = multiply_add(p, r, np.float32(8.3334519073e-3))
    p = multiply_add(p, r, np.float32(4.1665795894e-2))
    p = multiply_add(p, r, np.float32(1.6666665459e-1))
    p = multiply_add(p, r, np.float32(5.0000001201e-1))
    p = multiply_add(p, r * r, r + np.float32(1.0))
    bits = int32((int32(power) + int32(127)) << int32(23))
    return p * as_float(bits)


@njit(inline="always")
def gelu(x: Any) -> Any:
    """GPT-J's activation: x * sigmoid(2 u), computed from exp(-|2 u|)."""
    u = _GELU * multiply_add(np.float32(0.044715) * x, x * x, x)
    e = exp(-abs(u))
    return x * (np.float32(1.0) if u > 0 else e) / (np.float32(1.0) + e)


@njit(inline="always")
def rotate(x: Any, cosine: Any, sine: Any) -> None:
    """Rotary position embedding of one head, in place; see `rotary`."""
    for pair in range(cosine.shape[0]):
        even, odd = x[2 * pair], x[2 * pair + 1]
        x[2 * pair] = multiply_add(even, cosine[pair], -(odd * sine[pair]))
        x[2 * pair + 1] = multiply_add(even, sine[pair], odd * cosine[pair])


@cached_njit()
def order(bits: Any) -> Any:
    """Map a float32's bits to an integer in the same order; the function is its own inverse."""
    return int32(bits ^ ((bits >> int32(31)) & int32(0x7FFFFFFF)))


@cached_njit()
def largest(x: Any) -> Any:
    """The largest entry of x, compared as integers, because only those are vectorized here."""
    bits, peak = x.view(np.int32), int32(-(1 << 31))
    for i in range(bits.shape[0]):
        peak = max(peak, order(bits[i]))
    return as_float(order(peak))


@cached_njit()
def largest_size(x: Any) -> Any:
    """The largest |entry| of x, also compared as integers."""
    bits, peak = x.view(np.int32), int32(0)
    for i in range(bits.shape[0]):
        peak = max(peak, bits[i] & int32(0x7FFFFFFF))
    return as_float(peak)


@cached_njit(error_model="numpy")
def layer_norm(hidden: Any, weight: Any, bias: Any, epsilon: float, normed: Any) -> None:
    """normed[:rows] = the layer norm of `hidden` [rows, d_model], each row by itself."""
    d_model = weight.shape[0]
    for row in range(hidden.shape[0]):
        entering, leaving = hidden[row], normed[row]
        mean = sum_of(entering, d_model) / np.float32(d_model)
        variance = sum_of_squares(entering, d_model, mean) / np.float32(d_model)
        scale = np.float32(1.0) / np.float32(math.sqrt(variance + np.float32(epsilon)))
        for i in range(d_model):
            leaving[i] = multiply_add((entering[i] - mean) * scale, weight[i], bias[i])


@intrinsic
def _as_bits(typing_context: Any, x: Any) -> Any:
    """The int32 with the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def store(x: Any, stored: Any) -> None:
    """Put fp32 into the KV cache: as it is, or as the bits of bfloat16, rounded to the nearest."""
    raise NotImplementedError("compiled functions call it")


@overload(store, inline="always")
def _choose_store(x: Any, stored: Any) -> Any:
    def as_it_is(x: Any, stored: Any) -> None:
        for i in range(x.shape[0]):  # an assignment to a slice takes a second to compile
            stored[i] = x[i]

    def rounded(x: Any, stored: Any) -> None:
        for i in range(x.shape[0]):
            bits = _as_bits(x[i])
            stored[i] = np.uint16(
                (bits + int32(0x7FFF) + ((bits >> int32(16)) & int32(1))) >> int32(16)
            )

    return as_it_is if stored.dtype == types.float32 else rounded


@cached_njit(error_model="numpy")
def rotate_and_store(
    fused: Any,
    storage: Any,
    tables: Any,
    slots: Any,
    positions: Any,
    cosines: Any,
    sines: Any,
    head: int,
) -> None:
    """Rotate a head's queries and keys by their positions, and store its keys and values.

    `fused` [rows, 3 * d_model + d_ff] holds queries, keys, values and the MLP's inputs to its
    activation; `storage` [2 * heads, pages, PAGE_TOKENS, head_dim] is the layer's part of the
    cache, fp32 or the bits of bfloat16, and `tables` [slots, ..] has the pages of the slots.
    `cosines` and `sines` are [context, rotary_dim / 2].
    """
    heads, head_dim = storage.shape[0] // 2, storage.shape[3]
    d_model, at = heads * head_dim, head * head_dim
    for row in range(slots.shape[0]):
        position = positions[row]
        query = fused[row, at : at + head_dim]
        key = fused[row, d_model + at : d_model + at + head_dim]
        value = fused[row, 2 * d_model + at : 2 * d_model + at + head_dim]
        page, in_page = tables[slots[row], position // PAGE_TOKENS], position % PAGE_TOKENS
        rotate(query, cosines[position], sines[position])
        rotate(key, cosines[position], sines[position])
        store(key, storage[head, page, in_page])
        store(value, storage[heads + head, page, in_page])
