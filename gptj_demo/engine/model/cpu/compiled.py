"""The forward pass of a small fp32 model on a processor: one compiled call for all layers.

For a small model the cost of a step is dispatch: about thirty operations a layer on a few rows.
Here all layers are one function, compiled by numba: a step of the sample model takes 0.3 ms instead
of the 4.6 ms of transformers (`benchmarks/decode.py`, two cores of an AMD EPYC).

The sums of a row are always computed in the same order. So a row's results are the same to the last
bit beside any other rows, and a prompt's tokens have the results of generated ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from transformers import GPTJForCausalLM

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.model.base import Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.cpu.elementwise import exp, gelu, layer_norm, rotate, store
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.cpu.vectors import (
    HAS_HALF,
    HAS_MULTIPLY_ADD,
    LANES,
    MOST_ROWS,
    PANEL,
    dot_keys,
    mix_values,
    multiply_panel,
)
from gptj_demo.engine.model.fusing import LayerWeights, take_ends, take_layers
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.rotary import rotation_table
from gptj_demo.pages import PAGE_TOKENS

_PRODUCTS = (2, 4)
"""Places of the products' weights in `LayerWeights`."""

Room = tuple[np.ndarray, ...]
"""What a thread works in."""

_TILE = 64
"""Rows that go through the model together: what they need in between stays in the cache."""

# When several threads save time: in a forward pass by the positions that are read, as many of which
# as said take as long as a row's products; in the head by the rows.
_ROW_IN_POSITIONS, _WORK_FOR_THREADS = 256, 1800
_ROWS_FOR_THREADS = 8
_LEAST_ROWS_A_THREAD = 2


@njit(error_model="numpy", cache=True, nogil=True)
def _multiply(x: Any, rows: int, weight: Any, bias: Any, out: Any) -> None:
    """out[:rows] = x[:rows] @ weight + bias, as `multiply_panel` has them, panel by panel."""
    for panel in range(weight.shape[0]):
        for row in range(0, rows, MOST_ROWS):
            multiply_panel(x, row, min(MOST_ROWS, rows - row), weight, panel, bias, out)


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
    tables: Any,
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
    `storage` [2 * heads, pages, PAGE_TOKENS, head_dim] is the layer's part of the cache, fp32 or
    the bits of bfloat16, and `tables` [slots, ..] has the pages of the slots; rows are in the order
    of their positions where they share a slot. `cosines` and `sines` are [context, rotary_dim / 2],
    `joined` [.., d_model + d_ff] takes mixed values and activations, `scores` [1, context] is room
    to work in; `lanes` and `vectors` make up head_dim.
    """
    heads, head_dim = storage.shape[0] // 2, storage.shape[3]
    d_model = heads * head_dim
    scale = np.float32(1.0 / math.sqrt(head_dim))
    for row in range(slots.shape[0]):
        table, position = tables[slots[row]], positions[row]
        page, in_page = table[position // PAGE_TOKENS], position % PAGE_TOKENS
        # slices first: indices that are sums would be checked for being negative, one by one
        cosine, sine = cosines[position], sines[position]
        for head in range(2 * heads):  # queries, then keys
            turned = fused[row, head * head_dim : (head + 1) * head_dim]
            rotate(turned, cosine, sine)
        for head in range(2 * heads):
            stored = storage[head, page, in_page]
            at = d_model + head * head_dim
            made = fused[row, at : at + head_dim]
            store(made, stored)
        length = position + 1
        for head in range(heads):
            at = head * head_dim
            query = fused[row : row + 1, at : at + head_dim]
            dot_keys(query, storage, table, head, 0, length, scores, (0,), lanes, vectors)
            weights = scores[0]
            peak = _largest(weights, length)
            mass = np.float32(0.0)
            for j in range(length):
                weight = exp((weights[j] - peak) * scale)
                weights[j] = weight
                mass += weight
            mixed = joined[row : row + 1, at : at + head_dim]
            for i in range(head_dim):  # a slice that is assigned takes a second to compile
                mixed[0, i] = np.float32(0.0)
            of_values = heads + head
            mix_values(scores, storage, table, of_values, 0, length, mixed, (0,), lanes, vectors)
            inverse = np.float32(1.0) / mass
            for i in range(head_dim):
                mixed[0, i] *= inverse
        entering, activated = fused[row, 3 * d_model :], joined[row, d_model:]
        for i in range(d_ff):
            activated[i] = gelu(entering[i])


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
    tables: Any,
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
                tables,
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


class CompiledModel(ForwardModel):
    """A small GPT-J in fp32. Takes `model`'s weights over and leaves it empty."""

    @torch.inference_mode()
    def __init__(self, model: GPTJForCausalLM) -> None:
        shape = Shape.of(model.config)
        super().__init__(shape, torch.float32, model.lm_head.weight.device)
        embedding, norm_weight, norm_bias, *head = take_ends(model)
        rotation = rotation_table(shape.context_length, shape.rotary_dim)
        packed = [_pack_layer(layer) for layer in take_layers(model)]
        stacked = [np.stack(arrays) for arrays in zip(*packed, strict=True)]
        for product in _PRODUCTS:
            stacked[product] = _narrow(stacked[product])
        self._layers = tuple(stacked)
        self._embedding = embedding.numpy()
        self._norm = norm_weight.numpy(), norm_bias.numpy()
        head_weight, head_bias = _pack(head[0], head[1])
        self._head = _narrow(head_weight), head_bias
        self._rotation = rotation.real.contiguous().numpy(), rotation.imag.contiguous().numpy()
        width = self._layers[4].shape[2]
        lanes = math.gcd(shape.head_dim, LANES)
        self._head_shape = (0,) * lanes, (0,) * (shape.head_dim // lanes)
        widths = shape.d_model, self._layers[3].shape[1], width, self._layers[5].shape[1]
        self._threads = Threads(available_cores())
        self._rooms: list[Room] = [
            (
                *(np.zeros((_TILE, width), dtype=np.float32) for width in widths),
                np.zeros((1, rotation.shape[0]), dtype=np.float32),
            )
            for _ in range(self._threads.count)
        ]

    @property
    def verifies(self) -> bool:
        return True

    @property
    def least_row_cost(self) -> float:
        # a small model is bound by arithmetic; beside other load a pass of one row can seem slow
        return 0.6

    def narrow_cache(self) -> bool:
        self.dtype = torch.bfloat16
        return True

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        positions = np.array(rows.positions)
        work = int(positions.sum()) + _ROW_IN_POSITIONS * len(positions)
        tokens = np.array(rows.token_ids), np.array(rows.slots), positions
        return self._run_layers(cache, tokens, is_shared=work >= _WORK_FOR_THREADS)

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        token_ids = np.array(chunk.token_ids)
        positions = np.arange(chunk.start, chunk.start + len(token_ids))
        slots = np.full_like(positions, chunk.slot)
        return self._run_layers(cache, (token_ids, slots, positions), is_shared=False)

    def _run_layers(
        self, cache: KVCache, tokens: tuple[np.ndarray, ...], *, is_shared: bool
    ) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm, of (token ids, slots, positions).

        Tokens of one slot are neighbours, in the order of their positions.
        """
        hidden = np.empty((len(tokens[0]), self.shape.d_model), dtype=np.float32)
        is_narrow = cache.storage.dtype == torch.bfloat16
        stored = cache.storage.view(torch.uint16) if is_narrow else cache.storage
        pages = stored.numpy(), cache.tables.numpy()
        # a token attends to those before it, so one thread takes all tokens of a slot
        changes = np.flatnonzero(np.diff(tokens[1])).tolist() if is_shared else []
        bounds = [0, *(before + 1 for before in changes), len(hidden)]

        def run(first_slot: int, end_slot: int, room: Room) -> None:
            begin, end = bounds[first_slot], bounds[end_slot]
            _forward(
                *(array[begin:end] for array in tokens),
                self._embedding,
                *self._layers,
                *pages,
                *self._rotation,
                self.shape.epsilon,
                *self._head_shape,
                room,
                hidden[begin:end],
            )

        self._share(run, len(bounds) - 1, is_worth_it=is_shared)
        return torch.from_numpy(hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.numpy()
        out = np.empty((len(rows), len(self._head[1])), dtype=np.float32)

        def run(begin: int, end: int, room: Room) -> None:
            _logits(
                rows[begin:end],
                *self._norm,
                self.shape.epsilon,
                *self._head,
                room[0],
                out[begin:end],
            )

        self._share(run, len(rows), is_worth_it=len(rows) >= _ROWS_FOR_THREADS)
        return torch.from_numpy(out)[:, : self.shape.padded_vocabulary]

    def _share(
        self, run: Callable[[int, int, Room], None], rows: int, *, is_worth_it: bool
    ) -> None:
        """Run all rows, or slots, by several threads where that saves time."""
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
