"""A large model in 8 bits on the CPU: compiled products that read each weight once for all rows.

Activations are rounded to 16 bits, each row by a step of its own, and multiplied with the 8-bit
weights as integers, by the instructions that processors have for this. Such sums are exact, so they
are the same in any order and any company: a row's results do not depend on the rows beside it, nor
on the number of threads. The rounding is finer than bfloat16's, and half of the work of float32's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from llvmlite import ir
from numba import int32, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from gptj_demo.engine.compiled import GELU, exp, layer_norm
from gptj_demo.engine.int8 import Int8Linear, Int8Pair
from gptj_demo.engine.threads import Threads
from gptj_demo.engine.vectors import as_float

# A tile of so many rows and outputs is summed up in registers.
_ROWS, _OUTPUTS = 6, 4
_STEP = 32  # entries at a time; widths are filled up with zeros to a multiple
_AHEAD = 65536  # bytes by which weights are fetched ahead, into the second cache

# The largest code, and the most that a row's codes may add up to without their signs: times 128,
# the largest weight, it stays within 32 bits.
_LARGEST_CODE = np.float32(32767)
_CODES_IN_ALL = 16_000_000

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_PART_OUTPUTS = 1024  # what a thread takes at a time
_PART_HEADS = 2
_ROWS_TO_SPLIT = 1024  # at a time, so that temporaries take little memory


@intrinsic
def _tile(
    typing_context: Any,
    rows: Any,
    codes: Any,
    weights: Any,
    stride: Any,
    width: Any,
    sums: Any,
) -> Any:
    """Scalar products of up to `_ROWS` rows of int16 with `_OUTPUTS` rows of int8.

    All are int64: `rows` counts those at the address `codes`, each of `width` entries; the rows at
    the address `weights` are `stride` bytes apart; int32 [_ROWS, _OUTPUTS] go to address `sums`.
    """
    i8, i16, i32, i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
    pointer = ir.PointerType()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, codes, weights, stride, width, sums = arguments
        features = context.codegen().magic_tuple()[2].split(",")
        if "+avx512bw" in features:  # LLVM makes one instruction of it and the sum, where there is
            lanes, name = 32, "llvm.x86.avx512.pmaddw.d.512"
        elif "+avx2" in features:
            lanes, name = 16, "llvm.x86.avx2.pmadd.wd"
        else:
            lanes, name = 16, ""
        short, total = ir.VectorType(i16, lanes), ir.VectorType(i32, lanes // 2)

        def function(name: str, returned: Any, *taken: Any) -> Any:
            return cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(returned, taken), name
            )

        def load(address: Any, kind: Any) -> Any:
            return builder.load(builder.inttoptr(address, pointer), align=1, typ=kind)

        def every_other(vector: Any, first: int) -> Any:
            places = ir.Constant(ir.VectorType(i32, lanes // 2), list(range(first, lanes, 2)))
            undefined = ir.Constant(short, ir.Undefined)
            return builder.sext(builder.shuffle_vector(vector, undefined, places), total)

        def products(a: Any, b: Any) -> Any:
            """int16 by int16, neighbours added."""
            if name:
                return builder.call(function(name, total, short, short), [a, b])
            first, second = (builder.mul(every_other(a, i), every_other(b, i)) for i in (0, 1))
            return builder.add(first, second)

        fetch = function("llvm.prefetch.p0", ir.VoidType(), pointer, i32, i32, i32)
        add_up = function(f"llvm.vector.reduce.add.v{lanes // 2}i32", i32, total)
        done = builder.append_basic_block("done")
        chosen = builder.switch(rows, done)
        for count in range(1, _ROWS + 1):
            entry = builder.append_basic_block(f"rows.{count}")
            loop = builder.append_basic_block(f"rows.{count}.loop")
            after = builder.append_basic_block(f"rows.{count}.after")
            chosen.add_case(ir.Constant(i64, count), entry)
            builder.position_at_end(entry)
            row_bytes = builder.mul(width, i64(2))
            starts = [builder.add(codes, builder.mul(row_bytes, i64(r))) for r in range(count)]
            reads = [builder.add(weights, builder.mul(stride, i64(o))) for o in range(_OUTPUTS)]
            builder.branch(loop)
            builder.position_at_end(loop)
            at = builder.phi(i64)
            at.add_incoming(i64(0), entry)
            places = [(r, o) for r in range(count) for o in range(_OUTPUTS)]
            running = {place: builder.phi(total) for place in places}
            at_code = builder.mul(at, i64(2))
            widened = []
            for read in reads:
                address = builder.add(read, at)
                widened.append(builder.sext(load(address, ir.VectorType(i8, lanes)), short))
                ahead = builder.inttoptr(builder.add(address, i64(_AHEAD)), pointer)
                builder.call(fetch, [ahead, i32(0), i32(2), i32(1)])
            last = {}
            for r, start in enumerate(starts):
                row = load(builder.add(start, at_code), short)
                for o, weight in enumerate(widened):
                    last[r, o] = builder.add(running[r, o], products(weight, row))
                    running[r, o].add_incoming(ir.Constant(total, None), entry)
                    running[r, o].add_incoming(last[r, o], loop)
            following = builder.add(at, i64(lanes))
            at.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", following, width), loop, after)
            builder.position_at_end(after)
            for r, o in places:
                place = builder.add(sums, i64(4 * (r * _OUTPUTS + o)))
                builder.store(builder.call(add_up, [last[r, o]]), builder.inttoptr(place, pointer))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


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
    sums = np.zeros((_ROWS, _OUTPUTS), np.int32)
    tiles = (rows + _ROWS - 1) // _ROWS
    output = begin
    while output < end:
        together = end - output >= _OUTPUTS
        stride = width if together else 0  # one output alone is read as if it were several
        for tile in range(tiles):
            first, last = tile * rows // tiles, (tile + 1) * rows // tiles
            _tile(
                last - first,
                codes.ctypes.data + 2 * width * first,
                weight.ctypes.data + width * output,
                stride,
                width,
                sums.ctypes.data,
            )
            for o in range(_OUTPUTS if together else 1):
                for r in range(last - first):
                    product = np.float32(sums[r, o]) * (steps[first + r] * scale[output + o])
                    out[first + r, output + o] += product + bias[output + o]
        output += _OUTPUTS if together else 1


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
def _turn(x: Any, cosine: Any, sine: Any) -> None:
    """Rotary position embedding of one head, in place."""
    for pair in range(cosine.shape[0]):
        even, odd = x[2 * pair], x[2 * pair + 1]
        x[2 * pair] = even * cosine[pair] - odd * sine[pair]
        x[2 * pair + 1] = even * sine[pair] + odd * cosine[pair]


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
    `storage` [slots, 2 * heads, context, head_dim] is the layer's part of the cache, the bits of
    bfloat16; rows are in the order of their positions where they share a slot. `mixed`
    [rows, d_model] and `activated` [rows, d_ff] take the results.
    """
    heads, context, head_dim = storage.shape[1] // 2, storage.shape[2], storage.shape[3]
    d_model = heads * head_dim
    d_ff = activated.shape[1]
    scale = np.float32(1.0 / math.sqrt(head_dim))
    scores = np.empty(context, np.float32)
    for head in range(begin, end):
        first = head * head_dim
        for row in range(slots.shape[0]):
            position = positions[row]
            query = fused[row, first : first + head_dim]
            key = fused[row, d_model + first : d_model + first + head_dim]
            value = fused[row, 2 * d_model + first : 2 * d_model + first + head_dim]
            keys, values = storage[slots[row], head], storage[slots[row], heads + head]
            _turn(query, cosines[position], sines[position])
            _turn(key, cosines[position], sines[position])
            _store(key, keys[position])
            _store(value, values[position])
            peak = np.float32(-np.inf)
            for j in range(position + 1):
                at = keys[j]
                total = np.float32(0.0)
                for i in range(head_dim):
                    total += query[i] * as_float(int32(at[i]) << int32(16))
                total *= scale
                scores[j] = total
                peak = max(peak, total)
            mass = np.float32(0.0)
            for j in range(position + 1):
                share = exp(scores[j] - peak)
                scores[j] = share
                mass += share
            out = mixed[row, first : first + head_dim]
            out[:] = 0.0
            for j in range(position + 1):
                share, at = scores[j], values[j]
                for i in range(head_dim):
                    out[i] += share * as_float(int32(at[i]) << int32(16))
            inverse = np.float32(1.0) / mass
            for i in range(head_dim):
                out[i] *= inverse
    # gelu as GPT-J has it (tanh): x * sigmoid(2 u), by an exponential of what is not positive
    left, right = begin * d_ff // heads, end * d_ff // heads
    for row in range(slots.shape[0]):
        entering = fused[row, 3 * d_model + left : 3 * d_model + right]
        leaving = activated[row, left:right]
        for i in range(right - left):
            x = entering[i]
            u = GELU * (x + np.float32(0.044715) * x * x * x)
            e = exp(-abs(u))
            leaving[i] = x * (np.float32(1.0) if u > 0 else e) / (np.float32(1.0) + e)


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


class Int8Layer(NamedTuple):
    """A layer's norm, its first product and the pair of second ones."""

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    project_in: Int8Linear
    project_out: Int8Pair


class Int8Model:
    """A model in 8 bits as the compiled functions need it; what is between its products is fp32.

    The head keeps 16 bits, as two products of 8: the upper and the lower half of each weight.
    `layers` are each layer's norm, first product and second pair of products, taken one by one, so
    that those before need not be kept; `rotation` is complex64 [context, rotary_dim / 2].
    """

    def __init__(
        self,
        layers: Iterable[Int8Layer],
        embedding: torch.Tensor,
        norm: tuple[torch.Tensor, torch.Tensor],
        head: tuple[torch.Tensor, torch.Tensor],
        rotation: torch.Tensor,
        epsilon: float,
    ) -> None:
        self._layers = [
            (
                Norm(layer.norm_weight.float().numpy(), layer.norm_bias.float().numpy()),
                Matrix.of(layer.project_in),
                Matrix.of(layer.project_out.attention),
                Matrix.of(layer.project_out.mlp),
            )
            for layer in layers
        ]
        self._embedding = embedding
        self._norm = Norm(*(part.float().numpy() for part in norm))
        self._head = Matrix.in_halves(*head)
        self._cosines = rotation.real.contiguous().numpy()
        self._sines = rotation.imag.contiguous().numpy()
        self._epsilon = epsilon
        self._threads = Threads(torch.get_num_threads())

    def forward(
        self,
        storage: torch.Tensor,
        token_ids: torch.Tensor,
        slots: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        """fp32 hidden states [tokens, d_model] before the last norm.

        `storage` is the cache's, in bfloat16; each token stands at its position of its slot, those
        of one slot in this order.
        """
        hidden = F.embedding(token_ids, self._embedding).float()
        rows = hidden.numpy()
        stored = storage.view(torch.uint16).numpy()
        heads = stored.shape[2] // 2
        at = slots.numpy(), positions.numpy(), self._cosines, self._sines
        d_model = rows.shape[1]
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
        """fp32 logits [rows, padded_vocabulary] of what `forward` gives."""
        halves = self._product(self._normed(hidden.numpy(), self._norm), self._head)
        upper, lower = torch.from_numpy(halves).chunk(2, dim=1)
        return upper + lower

    def _normed(self, rows: np.ndarray, norm: Norm) -> np.ndarray:
        normed = np.empty_like(rows)
        layer_norm(rows, *norm, self._epsilon, normed)
        return normed

    def _product(self, x: np.ndarray, matrix: Matrix) -> np.ndarray:
        outputs, width = matrix.weight.shape
        out = np.zeros((len(x), outputs), np.float32)
        self._threads.run(_multiply, outputs, _PART_OUTPUTS, *Codes.of(x, width), *matrix, out)
        return out
