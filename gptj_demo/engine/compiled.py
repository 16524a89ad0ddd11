"""The forward pass of a small model on the CPU, compiled: one call for all layers and all rows.

For a small model the cost of a step is dispatch: some thirty operations a layer on a few rows each.
Here all layers are one function, compiled by numba. Each row is worked on by itself or, in the
products, beside others; its own sums are always made in the same order. So its results are the same
to the last bit in any company, and those of a prompt's token the same as if it had been generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numba import int32, njit

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.threads import Threads
from gptj_demo.engine.vectors import (
    HAS_HALF,
    HAS_MULTIPLY_ADD,
    LANES,
    MOST_ROWS,
    PANEL,
    as_float,
    dot_keys,
    mix_values,
    multiply_panel,
)

# norm, first and second product: weight and bias each, those of the products [out, in] and [out]
LayerWeights = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]

_PRODUCTS = (2, 4)
"""Places of the products' weights in it."""

Room = tuple[np.ndarray, ...]
"""What a thread works in."""

_TILE = 64
"""Rows that go through the model together: what they need in between stays in the cache."""

# When several threads save time: in a forward pass by the positions that are read, as many of which
# as said take as long as a row's products; in the head by the rows.
_ROW_IN_POSITIONS, _WORK_FOR_THREADS = 256, 1800
_ROWS_FOR_THREADS = 8
_LEAST_ROWS_A_THREAD = 2

_LOG2_E = np.float32(1.44269504)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LEAST_EXPONENT = np.float32(-87.0)
GELU = np.float32(2 * math.sqrt(2 / math.pi))


@njit(inline="always")
def exp(x: Any) -> Any:
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
    return p * as_float(bits)


@njit(error_model="numpy", cache=True, nogil=True)
def _multiply(x: Any, rows: int, weight: Any, bias: Any, out: Any) -> None:
    """out[:rows] = x[:rows] @ weight + bias, as `multiply_panel` has them, panel by panel."""
    for panel in range(weight.shape[0]):
        for row in range(0, rows, MOST_ROWS):
            multiply_panel(x, row, min(MOST_ROWS, rows - row), weight, panel, bias, out)


@njit(fastmath={"reassoc", "contract", "nsz"}, error_model="numpy", cache=True, nogil=True)
def layer_norm(hidden: Any, weight: Any, bias: Any, epsilon: float, normed: Any) -> None:
    """normed[:rows] = the layer norm of `hidden` [rows, d_model], each row by itself."""
    d_model = weight.shape[0]
    for row in range(hidden.shape[0]):
        entering, leaving = hidden[row], normed[row]
        total = np.float32(0.0)
        for i in range(d_model):
            total += entering[i]
        mean = total / np.float32(d_model)
        squares = np.float32(0.0)
        for i in range(d_model):
            difference = entering[i] - mean
            squares += difference * difference
        scale = np.float32(1.0) / np.float32(
            math.sqrt(squares / np.float32(d_model) + np.float32(epsilon))
        )
        for i in range(d_model):
            leaving[i] = (entering[i] - mean) * scale * weight[i] + bias[i]


@njit(fastmath={"nnan", "nsz", "reassoc"}, inline="never", cache=True, nogil=True)
def _largest(scores: Any, length: int) -> Any:
    """The largest of the first scores; any number where one of them is none, which then shows."""
    peak = np.float32(-np.inf)
    for j in range(length):
        peak = max(peak, scores[j])
    return peak


@njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True, nogil=True)
def _attend(
    fused: Any,
    storage: Any,
    slots: Any,
    positions: Any,
    cosines: Any,
    sines: Any,
    d_ff: int,
    joined: Any,
    scores: Any,
    lanes: Any,
    vectors: Any,
) -> None:
    """Everything between a layer's two products.

    `fused` [.., 3 * d_model + d_ff] holds queries, keys, values and what the MLP activates;
    `storage` [slots, 2 * heads, context, head_dim] is the layer's part of the cache; rows are in
    the order of their positions where they share a slot. `cosines` and `sines` are
    [context, rotary_dim / 2], `joined` [.., d_model + d_ff] takes mixed values and activations,
    `scores` [context] is room to work in; `lanes` and `vectors` make up head_dim.
    """
    heads, head_dim = storage.shape[1] // 2, storage.shape[3]
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
            made = fused[row, at : at + head_dim]
            for i in range(head_dim):  # a slice that is assigned takes a second to compile
                stored[i] = made[i]
        length = position + 1
        for head in range(heads):
            query = fused[row, head * head_dim : (head + 1) * head_dim]
            dot_keys(query, storage[slot, head], length, scores, lanes, vectors)
            peak = _largest(scores, length)
            mass = np.float32(0.0)
            for j in range(length):
                weight = exp((scores[j] - peak) * scale)
                scores[j] = weight
                mass += weight
            mixed = joined[row, head * head_dim : (head + 1) * head_dim]
            mix_values(scores, storage[slot, heads + head], length, mixed, lanes, vectors)
            inverse = np.float32(1.0) / mass
            for i in range(head_dim):
                mixed[i] *= inverse
        # gelu as GPT-J has it (tanh): x * sigmoid(2 u), by an exponential of what is not positive
        entering, activated = fused[row, 3 * d_model :], joined[row, d_model:]
        for i in range(d_ff):
            x = entering[i]
            u = GELU * (x + np.float32(0.044715) * x * x * x)
            e = exp(-abs(u))
            activated[i] = x * (np.float32(1.0) if u > 0 else e) / (np.float32(1.0) + e)


@njit(error_model="numpy", cache=True, nogil=True)
def _forward(
    token_ids: Any,
    slots: Any,
    positions: Any,
    embedding: Any,
    norm_weight: Any,
    norm_bias: Any,
    weight_in: Any,
    bias_in: Any,
    weight_out: Any,
    bias_out: Any,
    storage: Any,
    cosines: Any,
    sines: Any,
    epsilon: float,
    lanes: Any,
    vectors: Any,
    room: Any,
    hidden: Any,
) -> None:
    """All layers, for as many rows at a time as `room` has: see `CompiledModel`."""
    normed, fused, joined, added, scores = room
    d_model = embedding.shape[1]
    d_ff = joined.shape[1] - d_model
    for begin in range(0, token_ids.shape[0], _TILE):
        end = min(begin + _TILE, token_ids.shape[0])
        part, rows = hidden[begin:end], end - begin
        for row in range(rows):
            embedded = embedding[token_ids[begin + row]]
            for i in range(d_model):
                part[row, i] = embedded[i]
        for layer in range(weight_in.shape[0]):
            layer_norm(part, norm_weight[layer], norm_bias[layer], epsilon, normed)
            _multiply(normed, rows, weight_in[layer], bias_in[layer], fused)
            _attend(
                fused,
                storage[layer],
                slots[begin:end],
                positions[begin:end],
                cosines,
                sines,
                d_ff,
                joined,
                scores,
                lanes,
                vectors,
            )
            _multiply(joined, rows, weight_out[layer], bias_out[layer], added)
            for row in range(rows):
                for i in range(d_model):
                    part[row, i] += added[row, i]


@njit(error_model="numpy", cache=True, nogil=True)
def _logits(
    hidden: Any,
    norm_weight: Any,
    norm_bias: Any,
    epsilon: float,
    weight: Any,
    bias: Any,
    normed: Any,
    out: Any,
) -> None:
    """The last norm and the head: `out` is [rows, panels * PANEL]."""
    for begin in range(0, hidden.shape[0], _TILE):
        end = min(begin + _TILE, hidden.shape[0])
        layer_norm(hidden[begin:end], norm_weight, norm_bias, epsilon, normed)
        _multiply(normed, end - begin, weight, bias, out[begin:end])


def check_processor() -> None:
    """Raise `RuntimeError` where the compiled code would be slow."""
    if not HAS_MULTIPLY_ADD:
        raise RuntimeError("this processor has no fused multiply-adds")


class CompiledModel:
    """A small model's weights as the compiled functions need them, and room to work in.

    `rotation` is complex64 [context, rotary_dim / 2]; `norm` and `head` are weight and bias of the
    last norm and the head.
    """

    def __init__(
        self,
        layers: Iterable[LayerWeights],
        embedding: torch.Tensor,
        norm: tuple[torch.Tensor, torch.Tensor],
        head: tuple[torch.Tensor, torch.Tensor],
        rotation: torch.Tensor,
        heads: int,
        epsilon: float,
    ) -> None:
        packed = [_pack_layer(layer) for layer in layers]
        stacked = [np.stack(arrays) for arrays in zip(*packed, strict=True)]
        for product in _PRODUCTS:
            stacked[product] = _narrow(stacked[product])
        self._layers = tuple(stacked)
        self._embedding = embedding.numpy()
        self._norm = norm[0].numpy(), norm[1].numpy()
        head_weight, head_bias = _pack(*head)
        self._head = _narrow(head_weight), head_bias
        self._vocabulary = head[0].shape[0]
        self._rotation = rotation.real.contiguous().numpy(), rotation.imag.contiguous().numpy()
        self._epsilon = epsilon
        d_model, width = embedding.shape[1], self._layers[4].shape[2]
        lanes = math.gcd(d_model // heads, LANES)
        self._head_shape = (0,) * lanes, (0,) * (d_model // heads // lanes)
        widths = d_model, self._layers[3].shape[1], width, self._layers[5].shape[1]
        self._threads = Threads(available_cores())
        self._rooms: list[Room] = [
            (
                *(np.zeros((_TILE, width), dtype=np.float32) for width in widths),
                np.zeros(rotation.shape[0], dtype=np.float32),
            )
            for _ in range(self._threads.count)
        ]

    def forward(
        self,
        storage: torch.Tensor,
        token_ids: torch.Tensor,
        slots: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm.

        `storage` is the cache's; each token stands at its position of its slot. Either all of them
        follow each other in one slot, or each has a slot of its own: then threads share them, where
        that is enough work.
        """
        hidden = np.empty((len(token_ids), self._embedding.shape[1]), dtype=np.float32)
        tokens = token_ids.numpy(), slots.numpy(), positions.numpy()
        keys_values = storage.numpy()

        def run(begin: int, end: int, room: Room) -> None:
            _forward(
                *(array[begin:end] for array in tokens),
                self._embedding,
                *self._layers,
                keys_values,
                *self._rotation,
                self._epsilon,
                *self._head_shape,
                room,
                hidden[begin:end],
            )

        is_one_text = len(slots) > 1 and bool(slots[0] == slots[1])
        work = int(tokens[2].sum()) + _ROW_IN_POSITIONS * len(hidden)
        self._share(run, len(hidden), is_worth_it=work >= _WORK_FOR_THREADS and not is_one_text)
        return torch.from_numpy(hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, d_model] -> [rows, padded_vocabulary]."""
        rows = hidden.numpy()
        out = np.empty((len(rows), len(self._head[1])), dtype=np.float32)

        def run(begin: int, end: int, room: Room) -> None:
            _logits(
                rows[begin:end], *self._norm, self._epsilon, *self._head, room[0], out[begin:end]
            )

        self._share(run, len(rows), is_worth_it=len(rows) >= _ROWS_FOR_THREADS)
        return torch.from_numpy(out)[:, : self._vocabulary]

    def _share(
        self, run: Callable[[int, int, Room], None], rows: int, *, is_worth_it: bool
    ) -> None:
        """Run all rows, by several threads where that saves time."""
        each = -(-rows // self._threads.count) if is_worth_it else rows
        each = max(each, _LEAST_ROWS_A_THREAD)
        self._threads.run(
            lambda begin, end: run(begin, end, self._rooms[begin // each]), rows, each
        )


def _pack(weight: torch.Tensor, bias: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A product's weight [out, in] and bias as `multiply_panel` reads them, filled up with 0."""
    outputs, inputs = weight.shape
    panels = -(-outputs // PANEL)
    rows = torch.zeros(panels * PANEL, inputs + 1)
    rows[:outputs, :inputs] = weight
    rows[:outputs, inputs] = bias
    packed = rows[:, :inputs].reshape(panels, PANEL, inputs).transpose(1, 2).contiguous()
    return packed.numpy(), rows[:, inputs].contiguous().numpy()


def _narrow(panels: np.ndarray) -> np.ndarray:
    """The bits of `panels` in float16 where that is exact, as it is for weights stored in float16.

    A step of one row takes as long as its weights take to arrive from the cache or memory.
    """
    if not HAS_HALF:
        return panels
    wide = torch.from_numpy(panels)
    half = wide.half()
    return half.view(torch.int16).numpy().view(np.uint16) if half.float().equal(wide) else panels


def _pack_layer(layer: LayerWeights) -> tuple[np.ndarray, ...]:
    norm_weight, norm_bias, *products = layer
    return norm_weight.numpy(), norm_bias.numpy(), *_pack(*products[:2]), *_pack(*products[2:])
