"""A model in 8 bits on a processor: compiled products that read each weight once for all rows.

Activations are rounded to 16-bit integers, each row by its own step, and multiplied with the 8-bit
weights as integers. Integer sums are exact, so a row's results depend neither on the rows beside it
nor on the number of threads. The rounding is finer than bfloat16's. At GPT-J's real size one stream
is 1.7 times and four streams are 6.8 times as fast as bitsandbytes (`benchmarks/real_size.py`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir
from numba import int32, njit, types
from numba.extending import intrinsic
from transformers import GPTJForCausalLM

from gptj_demo.engine.model.base import Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.cpu.elementwise import exp, gelu, layer_norm, rotate
from gptj_demo.engine.model.cpu.int8_tile import OUTPUTS, ROWS, multiply_tile
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.cpu.vectors import as_float
from gptj_demo.engine.model.fusing import take_ends, take_int8_layers
from gptj_demo.engine.model.int8 import Int8Linear
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.rotary import rotation_table
from gptj_demo.pages import PAGE_TOKENS

_STEP = 32  # entries at a time; widths are filled up with zeros to a multiple

# The largest code, and the most that a row's codes may add up to without their signs: times 128,
# the largest weight, it stays within 32 bits.
_LARGEST_CODE = np.float32(32767)
_CODES_IN_ALL = 16_000_000

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_PART_OUTPUTS = 1024  # what a thread takes at a time
_PART_HEADS = 2
_ROWS_TO_SPLIT = 1024  # at a time, so that temporaries take little memory


@intrinsic
def _as_bits(typing_context: Any, x: Any) -> Any:
    """The int32 with the bits of a float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@njit(error_model="numpy", cache=True, nogil=True)
def _multiply(
    codes: Any, steps: Any, weight: Any, scale: Any, bias: Any, out: Any, begin: int, end: int
) -> None:
    """out[:, begin:end] += codes * steps @ (weight * scale).T + bias, for these outputs.

    `codes` int16 [rows, width], `steps` [rows], `weight` int8 [outputs, width], the others fp32.
    """
    rows, width = codes.shape
    sums = np.zeros((ROWS, OUTPUTS), np.int32)
    tiles = (rows + ROWS - 1) // ROWS
    output = begin
    while output < end:
        together = end - output >= OUTPUTS
        stride = width if together else 0  # one output alone is read as if it were several
        for tile in range(tiles):
            first, last = tile * rows // tiles, (tile + 1) * rows // tiles
            multiply_tile(
                last - first,
                codes.ctypes.data + 2 * width * first,
                weight.ctypes.data + width * output,
                stride,
                width,
                sums.ctypes.data,
            )
            for o in range(OUTPUTS if together else 1):
                for r in range(last - first):
                    product = np.float32(sums[r, o]) * (steps[first + r] * scale[output + o])
                    out[first + r, output + o] += product + bias[output + o]
        output += OUTPUTS if together else 1


@njit(error_model="numpy", cache=True, nogil=True)
def _multiply_twice(
    codes: Any,
    steps: Any,
    weight: Any,
    scale: Any,
    bias: Any,
    other_codes: Any,
    other_steps: Any,
    other_weight: Any,
    other_scale: Any,
    other_bias: Any,
    out: Any,
    begin: int,
    end: int,
) -> None:
    """Both products added to the same outputs."""
    _multiply(codes, steps, weight, scale, bias, out, begin, end)
    _multiply(other_codes, other_steps, other_weight, other_scale, other_bias, out, begin, end)


@njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
def _encode(x: Any, codes: Any, steps: Any) -> None:
    """x [rows, width] as `codes` (int16, may be wider) times a step for each row.

    No code and no sum of codes is too large for the products, whatever the weights are.
    """
    width = x.shape[1]
    for row in range(x.shape[0]):
        entries, coded = x[row], codes[row]
        largest, total = np.float32(0.0), np.float32(0.0)
        for i in range(width):
            size = abs(entries[i])
            largest = max(largest, size)
            total += size
        step = max(largest / _LARGEST_CODE, total / np.float32(_CODES_IN_ALL - width))
        if not math.isfinite(total):
            steps[row] = np.nan  # what is no number makes none of what comes of it
        elif step < np.float32(1e-35):  # all but nothing, and its inverse would be infinite
            coded[:] = 0
            steps[row] = np.float32(0.0)
        else:
            inverse = np.float32(1.0) / step
            for i in range(width):
                coded[i] = np.int16(np.rint(entries[i] * inverse))
            steps[row] = step


@njit(inline="always")
def _store(x: Any, stored: Any) -> None:
    """fp32 as bfloat16, rounded to the nearest."""
    for i in range(x.shape[0]):
        bits = _as_bits(x[i])
        stored[i] = np.uint16(
            (bits + int32(0x7FFF) + ((bits >> int32(16)) & int32(1))) >> int32(16)
        )


@njit(fastmath=_FAST, error_model="numpy", cache=True, nogil=True)
def _attend(
    fused: Any,
    storage: Any,
    tables: Any,
    slots: Any,
    positions: Any,
    cosines: Any,
    sines: Any,
    mixed: Any,
    activated: Any,
    begin: int,
    end: int,
) -> None:
    """Between a layer's products, for the heads from `begin` to `end` and their share of the MLP.

    `fused` [rows, 3 * d_model + d_ff] holds queries, keys, values and what the MLP activates;
    `storage` [2 * heads, pages, PAGE_TOKENS, head_dim] is the layer's part of the cache, the bits
    of bfloat16, and `tables` [slots, ..] has the pages of the slots; rows are in the order of their
    positions where they share a slot. `mixed` [rows, d_model] and `activated` [rows, d_ff] take the
    results.
    """
    heads, head_dim = storage.shape[0] // 2, storage.shape[3]
    d_model = heads * head_dim
    d_ff = activated.shape[1]
    scale = np.float32(1.0 / math.sqrt(head_dim))
    scores = np.empty(cosines.shape[0], np.float32)
    for head in range(begin, end):
        first = head * head_dim
        for row in range(slots.shape[0]):
            position = positions[row]
            query = fused[row, first : first + head_dim]
            key = fused[row, d_model + first : d_model + first + head_dim]
            value = fused[row, 2 * d_model + first : 2 * d_model + first + head_dim]
            table = tables[slots[row]]
            page, in_page = table[position // PAGE_TOKENS], position % PAGE_TOKENS
            rotate(query, cosines[position], sines[position])
            rotate(key, cosines[position], sines[position])
            _store(key, storage[head, page, in_page])
            _store(value, storage[heads + head, page, in_page])
            peak = np.float32(-np.inf)
            for first_in_page in range(0, position + 1, PAGE_TOKENS):
                keys = storage[head, table[first_in_page // PAGE_TOKENS]]
                for j in range(min(PAGE_TOKENS, position + 1 - first_in_page)):
                    at = keys[j]
                    total = np.float32(0.0)
                    for i in range(head_dim):
                        total += query[i] * as_float(int32(at[i]) << int32(16))
                    total *= scale
                    scores[first_in_page + j] = total
                    peak = max(peak, total)
            mass = np.float32(0.0)
            for j in range(position + 1):
                share = exp(scores[j] - peak)
                scores[j] = share
                mass += share
            out = mixed[row, first : first + head_dim]
            out[:] = 0.0
            for first_in_page in range(0, position + 1, PAGE_TOKENS):
                values = storage[heads + head, table[first_in_page // PAGE_TOKENS]]
                for j in range(min(PAGE_TOKENS, position + 1 - first_in_page)):
                    share, at = scores[first_in_page + j], values[j]
                    for i in range(head_dim):
                        out[i] += share * as_float(int32(at[i]) << int32(16))
            inverse = np.float32(1.0) / mass
            for i in range(head_dim):
                out[i] *= inverse
    left, right = begin * d_ff // heads, end * d_ff // heads
    for row in range(slots.shape[0]):
        entering = fused[row, 3 * d_model + left : 3 * d_model + right]
        leaving = activated[row, left:right]
        for i in range(right - left):
            leaving[i] = gelu(entering[i])


class Matrix(NamedTuple):
    """The arrays of an `Int8Linear`, its width filled up.

    The weights lie in memory of numpy's, which asks for large pages: they are read a third faster.
    """

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, linear: Int8Linear) -> Matrix:
        outputs, width = linear.weight.shape
        weight = np.empty((outputs, width + -width % _STEP), np.int8)
        weight[:, :width] = linear.weight.numpy()
        weight[:, width:] = 0
        bias = torch.zeros_like(linear.scale) if linear.bias is None else linear.bias
        return cls(weight, linear.scale.float().numpy(), bias.float().numpy())

    @classmethod
    def in_halves(cls, weight: torch.Tensor, bias: torch.Tensor) -> Matrix:
        """A product of which each weight keeps 16 bits: its outputs come as upper and lower halves,
        [2 * outputs], to be added."""
        outputs, width = weight.shape
        halves = np.zeros((2, outputs, width + -width % _STEP), np.int8)
        upper_half, lower_half = torch.from_numpy(halves)[..., :width]
        scale = torch.empty(outputs)
        for begin in range(0, outputs, _ROWS_TO_SPLIT):
            rows = slice(begin, begin + _ROWS_TO_SPLIT)
            part = weight[rows].float()
            scale[rows] = part.abs().amax(dim=1).clamp(min=1e-30) / (127 * 256)
            codes = (part / scale[rows, None]).round()
            upper = (codes / 256).round()
            upper_half[rows] = upper.to(torch.int8)
            lower_half[rows] = (codes - 256 * upper).clamp(max=127).to(torch.int8)
        scales = torch.cat((256 * scale, scale))
        biases = torch.cat((bias.float(), torch.zeros(outputs)))
        return cls(halves.reshape(2 * outputs, -1), scales.numpy(), biases.numpy())


class Codes(NamedTuple):
    """Rows rounded to 16 bits: `codes` int16 [rows, width], `steps` fp32 [rows]."""

    codes: np.ndarray
    steps: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, width: int) -> Codes:
        """x [rows, up to width], filled up with zeros."""
        coded = cls(np.zeros((len(x), width), np.int16), np.empty(len(x), np.float32))
        _encode(x, *coded)
        return coded


class Norm(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray


class Int8CpuModel(ForwardModel):
    """A GPT-J in 8 bits; everything between its products is fp32, the KV cache bfloat16.

    The head keeps 16 bits, as two products of 8: the upper and the lower half of each weight.
    Takes `model`'s weights over and leaves it empty.
    """

    @torch.inference_mode()
    def __init__(self, model: GPTJForCausalLM) -> None:
        shape = Shape.of(model.config)
        super().__init__(shape, torch.bfloat16, model.lm_head.weight.device)
        self._embedding, norm_weight, norm_bias, head_weight, head_bias = take_ends(model)
        model.lm_head = torch.nn.Identity()
        self._layers = [
            (
                Norm(layer.norm_weight.float().numpy(), layer.norm_bias.float().numpy()),
                Matrix.of(layer.project_in),
                Matrix.of(layer.project_out.attention),
                Matrix.of(layer.project_out.mlp),
            )
            for layer in take_int8_layers(model)
        ]
        self._norm = Norm(norm_weight.float().numpy(), norm_bias.float().numpy())
        self._head = Matrix.in_halves(head_weight, head_bias)
        rotation = rotation_table(shape.context_length, shape.rotary_dim)
        self._cosines = rotation.real.contiguous().numpy()
        self._sines = rotation.imag.contiguous().numpy()
        self._threads = Threads(torch.get_num_threads())

    @property
    def verifies(self) -> bool:
        return True

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        tokens = torch.as_tensor(rows.token_ids), np.array(rows.slots), np.array(rows.positions)
        return self._run_layers(cache, *tokens)

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        positions = np.arange(chunk.start, chunk.start + len(chunk.token_ids))
        slots = np.full_like(positions, chunk.slot)
        return self._run_layers(cache, torch.tensor(chunk.token_ids), slots, positions)

    def _run_layers(
        self, cache: KVCache, token_ids: torch.Tensor, slots: np.ndarray, positions: np.ndarray
    ) -> torch.Tensor:
        """fp32 hidden states [tokens, d_model] before the last norm.

        Tokens of one slot are in the order of their positions.
        """
        hidden = F.embedding(token_ids, self._embedding).float()
        rows = hidden.numpy()
        stored = cache.storage.view(torch.uint16).numpy()
        at = cache.tables.numpy(), slots, positions, self._cosines, self._sines
        heads, d_model = self.shape.heads, self.shape.d_model
        mixed = np.empty_like(rows)
        for number, (norm, first, attention, mlp) in enumerate(self._layers):
            fused = self._product(self._normed(rows, norm), first)
            activated = np.empty((len(rows), fused.shape[1] - 3 * d_model), np.float32)
            self._threads.run(
                _attend, heads, _PART_HEADS, fused, stored[number], *at, mixed, activated
            )
            self._threads.run(
                _multiply_twice,
                d_model,
                _PART_OUTPUTS // 2,
                *Codes.of(mixed, attention.weight.shape[1]),
                *attention,
                *Codes.of(activated, mlp.weight.shape[1]),
                *mlp,
                rows,
            )
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        halves = self._product(self._normed(hidden.numpy(), self._norm), self._head)
        upper, lower = torch.from_numpy(halves).chunk(2, dim=1)
        return upper + lower

    def _normed(self, rows: np.ndarray, norm: Norm) -> np.ndarray:
        normed = np.empty_like(rows)
        layer_norm(rows, *norm, self.shape.epsilon, normed)
        return normed

    def _product(self, x: np.ndarray, matrix: Matrix) -> np.ndarray:
        outputs, width = matrix.weight.shape
        out = np.zeros((len(x), outputs), np.float32)
        self._threads.run(_multiply, outputs, _PART_OUTPUTS, *Codes.of(x, width), *matrix, out)
        return out
