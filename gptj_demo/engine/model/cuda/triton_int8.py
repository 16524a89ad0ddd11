"""Triton kernels of products with 8-bit weights, which are read as bytes.

Two kernels multiply. `_multiply_by_lanes` is for one row, and for GPUs without tensor cores that
Triton can use (a T4): each lane converts its codes once and multiplies them with up to four rows.
`_multiply_by_dot` is for more rows, on tensor cores. Where a product has too few programs to keep a
GPU busy, its inputs are divided into parts (split-K), and `_add_parts` adds the sums of the parts.

Reproducibility: the number of rows and the GPU determine the order in which a product sums over its
inputs. The sums of parts are added in order, without atomic operations, and nothing is tuned at run
time. So a row gives the same bits at every place in any batch of the same size.

The instructions and registers in the comments were counted in code that was compiled offline
(Triton 3.7, ptxas); nothing here has been timed on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""`x` [rows, in], its rows contiguous; int8 `weight` [out, in], contiguous; fp32 `scale` [out]."""

_MOST_ROWS = 64  # one program holds all of them
# Four rows take 6.9 instructions a weight and widening moves 5 bytes a weight, so that on a T4, by
# its data sheet, reading bytes pays up to about 32 rows.
_MOST_ROWS_WITHOUT_DOT = 32
_LANES = tl.constexpr(64)  # two warps share an output, so that adding up their lanes costs little
_WORDS = tl.constexpr(2)  # words of four codes a lane: one load, like the 8 activations in 16 bits
_WARPS_WANTED = 16  # per multiprocessor, so that enough loads are in flight to keep it busy
_MOST_PARTS = 8
_LEAST_INPUTS = 1024  # of a part
_SUMS = tl.constexpr(128)  # sums that a program of `_add_parts` computes


@triton.jit
def _unpack(words, BY_BITS: tl.constexpr):
    """The four int8 codes of each 32-bit word in fp32, exactly.

    Converting a byte takes one instruction, and some GPUs finish 16 of these a clock and
    multiprocessor. On those that read about as many codes, two of the four are made by setting
    bits: a byte in the lowest bits of 2**23 adds its value, and flipping its highest bit adds 128.
    """
    words = words.to(tl.uint32, bitcast=True)
    first = words.to(tl.int8).to(tl.float32)
    second = (words >> 8).to(tl.int8).to(tl.float32)
    if BY_BITS:
        third = (((words >> 16) & 0xFF) ^ 0x4B000080).to(tl.float32, bitcast=True) - 8388736.0
        fourth = ((words >> 24) ^ 0x4B000080).to(tl.float32, bitcast=True) - 8388736.0
    else:
        third = (words >> 16).to(tl.int8).to(tl.float32)
        fourth = (words >> 24).to(tl.int8).to(tl.float32)
    return first, second, third, fourth


@triton.jit
def _every_fourth(x):
    """[lanes, 4 * words] -> four of [lanes, words]: the factors of each code of a word."""
    even, odd = tl.split(tl.reshape(x, [_LANES, _WORDS, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit(do_not_specialize=["rows"])
def _multiply_by_lanes(
    x,
    words,
    scale,
    bias,
    output,
    rows,
    out_features,
    in_features,
    part_inputs,
    x_stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    BY_BITS: tl.constexpr,
    FITS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """2.5 instructions a weight at one row; 3.5 where two of four codes are made by bits."""
    # programs of neighbouring groups of rows run at about the same time and share the weights in
    # the cache
    row = tl.program_id(0) * ROWS
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    part = tl.program_id(2)
    inside = out < out_features
    lane = tl.arange(0, _LANES)
    word = lane[:, None] * _WORDS + tl.arange(0, _WORDS)[None, :]
    at = lane[:, None] * (4 * _WORDS) + tl.arange(0, 4 * _WORDS)[None, :]
    # beyond the last output, its weights are read again, so that no mask is needed
    last = tl.minimum(out, out_features - 1).to(tl.int64)[:, None, None]
    words += last * (in_features // 4) + word[None, :, :]
    begin = part * part_inputs
    end = tl.minimum(begin + part_inputs, in_features)
    totals = ()
    for _ in tl.static_range(ROWS):
        totals = totals + (tl.zeros([OUT, _LANES, _WORDS], tl.float32),)  # noqa: RUF005
    for first in range(begin, end, 4 * _LANES * _WORDS):
        if FITS:
            codes = tl.load(words + first // 4)
        else:
            codes = tl.load(words + first // 4, mask=(first + 4 * word < end)[None, :, :], other=0)
        w1, w2, w3, w4 = _unpack(codes, BY_BITS)
        grown = ()
        for r in tl.static_range(ROWS):
            factors = x + tl.minimum(row + r, rows - 1) * x_stride + first + at
            if FITS:
                factor = tl.load(factors)
            else:
                factor = tl.load(factors, mask=first + at < end, other=0.0)
            x1, x2, x3, x4 = _every_fourth(factor.to(tl.float32))
            total = totals[r] + w1 * x1[None, :, :]
            total += w2 * x2[None, :, :]
            total += w3 * x3[None, :, :]
            total += w4 * x4[None, :, :]
            grown = grown + (total,)  # noqa: RUF005
        totals = grown
    scales = tl.load(scale + out, mask=inside, other=0.0)
    for r in tl.static_range(ROWS):
        sums = tl.sum(tl.sum(totals[r], axis=2), axis=1) * scales
        if WHOLE:
            sums += tl.load(bias + out, mask=inside, other=0.0)
        place = output + (part * rows + row + r) * out_features + out
        tl.store(place, sums, mask=inside & (row + r < rows))


@triton.jit
def _widen(codes, dtype: tl.constexpr):
    """int8 to floating point, exactly, by setting bits.

    A byte in the lowest bits of 1024 in fp16 (2**23 in fp32) adds its value. Flipping its highest
    bit adds 128, so that negative codes stay in order.
    """
    codes = codes.to(tl.uint8, bitcast=True)
    if dtype == tl.float16:
        return (codes.to(tl.uint16) ^ 0x6480).to(tl.float16, bitcast=True) - 1152.0
    return ((codes.to(tl.uint32) ^ 0x4B000080).to(tl.float32, bitcast=True) - 8388736.0).to(dtype)


@triton.jit(do_not_specialize=["rows"])
def _multiply_by_dot(
    x,
    weight,
    scale,
    bias,
    output,
    rows,
    out_features,
    in_features,
    part_inputs,
    x_stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
    WHOLE: tl.constexpr,
):
    out = tl.program_id(0) * OUT + tl.arange(0, OUT)
    part = tl.program_id(1)
    inside = out < out_features
    row = tl.arange(0, ROWS)
    weights = weight + out.to(tl.int64)[:, None] * in_features
    begin = part * part_inputs
    end = tl.minimum(begin + part_inputs, in_features)
    # the weights are the left factor: tensor cores take it from registers, where the bytes are
    # converted to the activations' type; the activations are the right factor
    total = tl.zeros([OUT, ROWS], tl.float32)
    for first in range(begin, end, IN):
        at = first + tl.arange(0, IN)
        there = at < end
        codes = tl.load(
            weights + at[None, :],
            mask=inside[:, None] & there[None, :],
            other=0,
            eviction_policy="evict_first",
        )
        factor = tl.load(
            x + row[None, :] * x_stride + at[:, None],
            mask=(row < rows)[None, :] & there[:, None],
            other=0.0,
        )
        total = tl.dot(_widen(codes, factor.dtype), factor, total, input_precision="ieee")
    total = total * tl.load(scale + out, mask=inside, other=0.0)[:, None]
    if WHOLE:
        total += tl.load(bias + out, mask=inside, other=0.0)[:, None]
    tl.store(
        output + (part * rows + row[None, :]) * out_features + out[:, None],
        total,
        mask=(row < rows)[None, :] & inside[:, None],
    )


@triton.jit(do_not_specialize=["count"])
def _add_parts(sums, bias, output, count, out_features, PARTS: tl.constexpr):
    at = tl.program_id(0) * _SUMS + tl.arange(0, _SUMS)
    inside = at < count
    total = tl.load(bias + at % out_features, mask=inside, other=0.0)
    for part in tl.static_range(PARTS):
        total += tl.load(sums + part * count + at, mask=inside, other=0.0)
    tl.store(output + at, total, mask=inside)


@triton.jit
def _widen_row(weight, scale, output, in_features):
    row = tl.program_id(0).to(tl.int64)
    eights = tl.program_id(1) * 512 + tl.arange(0, 512)
    # 8 codes a thread are 16 bytes when they are widened, the most that one store takes
    at = eights[:, None] * 8 + tl.arange(0, 8)[None, :]
    inside = (eights * 8 < in_features)[:, None]
    codes = tl.load(weight + row * in_features + at, mask=inside, other=0)
    tl.store(
        output + row * in_features + at, codes.to(tl.float32) * tl.load(scale + row), mask=inside
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    """What one program computes: `out` outputs of `rows` rows, `inputs` at a time."""

    rows: int
    out: int
    inputs: int
    warps: int = 2
    stages: int = 1


def _blocks(rows: int, dtype: torch.dtype, by_dot: bool) -> _Blocks:
    """Blocks that need no more shared memory than a block has on any GPU: 64 KB, on a T4.

    Two warps a program: with more, several convert the same weights.
    """
    if rows == 1 or not by_dot:
        inputs = 4 * _LANES.value * _WORDS.value
        rows = min(4, triton.next_power_of_2(rows))
        return _Blocks(rows, 8 if rows < 4 else 4, inputs)
    rows = max(16, triton.next_power_of_2(rows))
    if dtype == torch.float32:  # without tensor cores, both factors pass through shared memory
        return _Blocks(rows, 32, 32, warps=4, stages=2)
    if rows == 16:
        return _Blocks(rows, 32, 128, stages=4)
    if rows == 32:
        return _Blocks(rows, 64, 64, stages=4)
    return _Blocks(rows, 64, 64, stages=3)


def _part_inputs(blocks: _Blocks, out_features: int, in_features: int, processors: int) -> int:
    """Inputs of a part: all, or fewer, so that each of the multiprocessors gets enough warps."""
    warps = triton.cdiv(out_features, blocks.out) * blocks.warps
    parts = 1
    while parts < _MOST_PARTS and 3 * parts * warps < 2 * processors * _WARPS_WANTED:
        parts *= 2
    parts = min(parts, max(1, in_features // _LEAST_INPUTS))
    blocks_of_part: int = triton.cdiv(triton.cdiv(in_features, parts), blocks.inputs)
    return blocks_of_part * blocks.inputs


def most_int8_rows(device: torch.device) -> int:
    """Rows up to which `int8_sum` reads each weight about once."""
    return _MOST_ROWS if _has_dot(device) else _MOST_ROWS_WITHOUT_DOT


def int8_row_counts(device: torch.device) -> list[int]:
    """The largest number of rows of each kernel; it serves all numbers above the previous one."""
    return [1, 16, 32, _MOST_ROWS] if _has_dot(device) else [1, 2, _MOST_ROWS_WITHOUT_DOT]


def _capability(device: torch.device) -> tuple[int, int] | None:
    """The compute capability of a GPU; None in Triton's interpreter."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def _has_dot(device: torch.device) -> bool:
    """Whether `tl.dot` uses tensor cores: compiled for a T4 or older, it does not."""
    capability = _capability(device)
    return capability is None or capability >= (8, 0)


def _reads_faster_than_it_converts(device: torch.device) -> bool:
    """Whether this GPU, such as an A100 or H100, reads 12 codes or more a clock and
    multiprocessor; a T4, A10G and L4 read about 5."""
    capability = _capability(device)
    return capability is not None and (capability == (8, 0) or capability >= (9, 0))


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def int8_sum(products: Sequence[Factors], bias: torch.Tensor) -> torch.Tensor:
    """The sum of `x @ (weight * scale[:, None]).T` over the products, plus the fp32 `bias` [out].

    All products have the same `out` and as many rows, at most `most_int8_rows`. `in` is a multiple
    of `kernels.INT8_INPUTS_MULTIPLE`. Sums are in fp32; the result [rows, out] has x's type.
    """
    x, weight, _ = products[0]
    rows, out_features = x.shape[0], weight.shape[0]
    blocks = _blocks(rows, x.dtype, _has_dot(x.device))
    processors = _processors(x.device)
    lengths = [_part_inputs(blocks, out_features, x.shape[1], processors) for x, _, _ in products]
    parts = [
        triton.cdiv(x.shape[1], length) for (x, _, _), length in zip(products, lengths, strict=True)
    ]
    output = x.new_empty(rows, out_features)
    if sum(parts) == 1:
        _multiply(blocks, products[0], bias, output, lengths[0], whole=True)
        return output
    sums = x.new_empty(sum(parts), rows, out_features, dtype=torch.float32)
    begin = 0
    for product, length, count in zip(products, lengths, parts, strict=True):
        _multiply(blocks, product, bias, sums[begin : begin + count], length, whole=False)
        begin += count
    _add_parts[(triton.cdiv(output.numel(), _SUMS.value),)](
        sums, bias, output, output.numel(), out_features, PARTS=sum(parts), num_warps=1
    )
    return output


def _multiply(
    blocks: _Blocks,
    product: Factors,
    bias: torch.Tensor,
    output: torch.Tensor,
    part_inputs: int,
    *,
    whole: bool,
) -> None:
    """Write the sums of each part of one product: [parts, rows, out], or the result if `whole`."""
    x, weight, scale = product
    rows, in_features = x.shape
    outs, parts = triton.cdiv(weight.shape[0], blocks.out), triton.cdiv(in_features, part_inputs)
    sizes = rows, weight.shape[0], in_features, part_inputs, x.stride(0)
    if rows == 1 or not _has_dot(x.device):
        _multiply_by_lanes[(triton.cdiv(rows, blocks.rows), outs, parts)](
            x,
            weight.view(torch.int32),
            scale,
            bias,
            output,
            *sizes,
            ROWS=blocks.rows,
            OUT=blocks.out,
            BY_BITS=_reads_faster_than_it_converts(x.device),
            FITS=in_features % blocks.inputs == 0,
            WHOLE=whole,
            num_warps=blocks.warps,
        )
        return
    _multiply_by_dot[(outs, parts)](
        x,
        weight,
        scale,
        bias,
        output,
        *sizes,
        ROWS=blocks.rows,
        OUT=blocks.out,
        IN=blocks.inputs,
        WHOLE=whole,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )


def widen(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`weight * scale[:, None]` of int8 [out, in], computed in fp32, in `dtype`.

    Reads each code once and writes 16 bytes at a time, which torch's product of mixed types does
    not.
    """
    out_features, in_features = weight.shape
    output = torch.empty_like(weight, dtype=dtype)
    _widen_row[(out_features, triton.cdiv(in_features, 4096))](
        weight, scale, output, in_features, num_warps=4
    )
    return output
