"""Triton kernels for CUDA: a decode step's attention over the KV cache, and 8-bit products.

Import this only where Triton is installed; `kernels.find_triton` does.

Reproducibility: nothing here depends on which rows stand beside each other. A row's positions are
cut into parts of `PART` from its own beginning, whatever the lengths of the others, and the parts
are put together in one order; a product sums over its inputs in one order for a given number of
rows, and nothing is added up by atomic operations or in a way that is tuned while it runs. So the
same rows in a batch of the same size give the same bits, wherever they stand in it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PART = 128
"""Positions of a row that one program attends to; the parts are put together afterwards."""

_MOST_ROWS = 64  # one program holds all of them
_MOST_ROWS_WITHOUT_DOT = 8
_POSITIONS = tl.constexpr(32)  # of a part, looked at together
_PARTS = tl.constexpr(8)  # put together at a time


@triton.jit
def _rotate_and_store(
    fused,
    rotation,
    slots,
    positions,
    stored,
    queries,
    fused_stride,
    slot_stride,
    head_stride,
    heads,
    HEAD_DIM: tl.constexpr,
    ROTARY_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row)
    if slot < 0:
        return
    position = tl.load(positions + row)
    d = tl.arange(0, BLOCK)
    inside, turned = d < HEAD_DIM, d < ROTARY_DIM
    # pairs of neighbours: (a, b) -> (a cos - b sin, b cos + a sin)
    angle = rotation + position * ROTARY_DIM + (d // 2) * 2
    cos = tl.load(angle, mask=turned, other=1.0)
    sin = tl.load(angle + 1, mask=turned, other=0.0)
    sin = tl.where(d % 2 == 0, -sin, sin)
    source = fused + row.to(tl.int64) * fused_stride + head * HEAD_DIM
    query = tl.load(source + d, mask=inside, other=0.0).to(tl.float32)
    partner = tl.load(source + (d ^ 1), mask=turned, other=0.0).to(tl.float32)
    tl.store(
        queries + (row * heads + head) * HEAD_DIM + d, query * cos + partner * sin, mask=inside
    )
    source += heads * HEAD_DIM
    key = tl.load(source + d, mask=inside, other=0.0).to(tl.float32)
    partner = tl.load(source + (d ^ 1), mask=turned, other=0.0).to(tl.float32)
    target = stored + slot * slot_stride + head * head_stride + position * HEAD_DIM
    tl.store(target + d, key * cos + partner * sin, mask=inside)
    source += heads * HEAD_DIM
    value = tl.load(source + d, mask=inside, other=0.0)
    tl.store(target + heads * head_stride + d, value, mask=inside)


@triton.jit
def _attend_part(
    queries,
    stored,
    slots,
    positions,
    mixed,
    peaks,
    masses,
    scale,
    slot_stride,
    head_stride,
    heads,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PART: tl.constexpr,
):
    row, head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(slots + row)
    length = tl.load(positions + row) + 1
    begin = part * PART
    if (slot < 0) | (begin >= length):
        return
    d = tl.arange(0, BLOCK)
    inside = d < HEAD_DIM
    query = tl.load(queries + (row * heads + head) * HEAD_DIM + d, mask=inside, other=0.0)
    query = query.to(tl.float32) * scale
    keys = stored + slot * slot_stride + head * head_stride
    values = keys + heads * head_stride
    peak = -float("inf")
    mass = 0.0
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(begin, min(begin + PART, length), _POSITIONS):
        at = first + tl.arange(0, _POSITIONS)
        own = at < length
        places = at[:, None] * HEAD_DIM + d[None, :]
        mask = own[:, None] & inside[None, :]
        key = tl.load(keys + places, mask=mask, other=0.0)
        value = tl.load(values + places, mask=mask, other=0.0)
        scores = tl.sum(key.to(tl.float32) * query[None, :], axis=1)
        scores = tl.where(own, scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, axis=0))
        weights = tl.exp(scores - higher)
        faded = tl.exp(peak - higher)
        mass = mass * faded + tl.sum(weights, axis=0)
        total = total * faded + tl.sum(weights[:, None] * value.to(tl.float32), axis=0)
        peak = higher
    place = (row * heads + head) * tl.num_programs(2) + part
    tl.store(peaks + place, peak)
    tl.store(masses + place, mass)
    tl.store(mixed + place.to(tl.int64) * HEAD_DIM + d, total, mask=inside)


@triton.jit
def _put_together(
    mixed,
    peaks,
    masses,
    slots,
    positions,
    output,
    heads,
    parts,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PART: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row)
    used = tl.load(positions + row) // PART + 1
    used = tl.where(slot < 0, 0, used)
    d = tl.arange(0, BLOCK)
    inside = d < HEAD_DIM
    place = (row * heads + head) * parts
    peak = -float("inf")
    mass = 0.0
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, used, _PARTS):
        part = first + tl.arange(0, _PARTS)
        own = part < used
        part_peaks = tl.load(peaks + place + part, mask=own, other=-float("inf"))
        part_masses = tl.load(masses + place + part, mask=own, other=0.0)
        places = (place + part).to(tl.int64)[:, None] * HEAD_DIM + d[None, :]
        part_totals = tl.load(mixed + places, mask=own[:, None] & inside[None, :], other=0.0)
        higher = tl.maximum(peak, tl.max(part_peaks, axis=0))
        weights = tl.exp(part_peaks - higher)
        faded = tl.exp(peak - higher)
        mass = mass * faded + tl.sum(weights * part_masses, axis=0)
        total = total * faded + tl.sum(weights[:, None] * part_totals, axis=0)
        peak = higher
    # rows that only pad the batch have no mass: zeros
    total = tl.where(slot < 0, 0.0, total / tl.where(slot < 0, 1.0, mass))
    tl.store(output + (row * heads + head) * HEAD_DIM + d, total, mask=inside)


@triton.jit
def _widen(codes, dtype: tl.constexpr):
    """int8 to floating point, exactly, by setting bits: converting costs more than reading.

    A byte in the lowest bits of 1024 in fp16 (2**23 in fp32) stands for as many more; flipping its
    highest bit adds 128, so that negative ones come out in order.
    """
    codes = codes.to(tl.uint8, bitcast=True)
    if dtype == tl.float16:
        return (codes.to(tl.uint16) ^ 0x6480).to(tl.float16, bitcast=True) - 1152.0
    return ((codes.to(tl.uint32) ^ 0x4B000080).to(tl.float32, bitcast=True) - 8388736.0).to(dtype)


@triton.jit
def _int8_row_by_row(
    x,
    weight,
    scale,
    bias,
    output,
    out_features,
    in_features,
    x_stride,
    OUT: tl.constexpr,
    IN: tl.constexpr,
):
    # programs of neighbouring rows run at about the same time and share the weights in the cache
    row = tl.program_id(0)
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    inside = out < out_features
    weights = weight + out.to(tl.int64)[:, None] * in_features
    total = tl.zeros([OUT, IN], tl.float32)
    for first in range(0, in_features, IN):
        at = first + tl.arange(0, IN)
        there = at < in_features
        factor = tl.load(x + row * x_stride + at, mask=there, other=0.0).to(tl.float32)
        part = tl.load(weights + at[None, :], mask=inside[:, None] & there[None, :], other=0)
        total += _widen(part, tl.float32) * factor[None, :]
    sums = tl.sum(total, axis=1) * tl.load(scale + out, mask=inside, other=0.0)
    sums += tl.load(bias + out, mask=inside, other=0.0)
    tl.store(output + row * out_features + out, sums, mask=inside)


@triton.jit
def _int8_rows(
    x,
    weight,
    scale,
    bias,
    output,
    rows,
    out_features,
    in_features,
    x_stride,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
):
    out = tl.program_id(0) * OUT + tl.arange(0, OUT)
    inside = out < out_features
    row = tl.arange(0, ROWS)
    weights = weight + out.to(tl.int64)[:, None] * in_features
    # the weights are the left factor, which tensor cores take from registers, where bytes become
    # the activations' type; the activations are the right one
    total = tl.zeros([OUT, ROWS], tl.float32)
    for first in range(0, in_features, IN):
        at = first + tl.arange(0, IN)
        there = at < in_features
        part = tl.load(
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
        total = tl.dot(_widen(part, factor.dtype), factor, total, input_precision="ieee")
    total = total * tl.load(scale + out, mask=inside, other=0.0)[:, None]
    total += tl.load(bias + out, mask=inside, other=0.0)[:, None]
    tl.store(
        output + row[None, :] * out_features + out[:, None],
        total,
        mask=(row < rows)[None, :] & inside[:, None],
    )


def rotate_and_store(
    fused: torch.Tensor,
    rotation: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
) -> torch.Tensor:
    """As `kernels.rotate_and_store`; a padding row's queries are left as they are in memory."""
    rows = fused.shape[0]
    heads, head_dim = stored.shape[1] // 2, stored.shape[3]
    queries = fused.new_empty(rows, heads, head_dim)
    _rotate_and_store[(rows, heads)](
        fused,
        torch.view_as_real(rotation),
        slots,
        positions,
        stored,
        queries,
        fused.stride(0),
        stored.stride(0),
        stored.stride(1),
        heads,
        HEAD_DIM=head_dim,
        ROTARY_DIM=2 * rotation.shape[1],
        BLOCK=triton.next_power_of_2(head_dim),
        num_warps=1,
    )
    return queries


def attend(
    queries: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """As `kernels.attend`; a padding row gets zeros. Sums are in fp32.

    Flash-decoding (Dao et al. 2023) with parts of a fixed size. Beyond a row's own length nothing
    is read, and programs with nothing to do end at once.
    """
    rows, heads, head_dim = queries.shape
    parts = triton.cdiv(longest, PART)
    block = triton.next_power_of_2(head_dim)
    # what `_attend_part` leaves out, `_put_together` does not read
    mixed = queries.new_empty((rows, heads, parts, head_dim), dtype=torch.float32)
    peaks = queries.new_empty((rows, heads, parts), dtype=torch.float32)
    masses = torch.empty_like(peaks)
    _attend_part[(rows, heads, parts)](
        queries,
        stored,
        slots,
        positions,
        mixed,
        peaks,
        masses,
        head_dim**-0.5,
        stored.stride(0),
        stored.stride(1),
        heads,
        HEAD_DIM=head_dim,
        BLOCK=block,
        PART=PART,
        num_warps=4,
    )
    output = queries.new_empty(rows, heads * head_dim)
    _put_together[(rows, heads)](
        mixed,
        peaks,
        masses,
        slots,
        positions,
        output,
        heads,
        parts,
        HEAD_DIM=head_dim,
        BLOCK=block,
        PART=PART,
        num_warps=4,
    )
    return output


def most_int8_rows(device: torch.device) -> int:
    """Rows up to which `int8_linear` reads each weight about once."""
    return _MOST_ROWS if _has_dot(device) else _MOST_ROWS_WITHOUT_DOT


def _has_dot(device: torch.device) -> bool:
    """Whether `tl.dot` uses tensor cores: compiled for a T4 or older, it does not."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def int8_linear(
    x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """`x @ (weight * scale[:, None]).T + bias`; bytes are read, not widened weights.

    `x` is [rows, in], its rows contiguous, in any floating type, which the result has too, for at
    most `most_int8_rows`; `weight` int8 [out, in], contiguous; `scale` and `bias` fp32 [out]. Sums
    are in fp32.
    """
    rows, in_features = x.shape
    out_features = weight.shape[0]
    output = x.new_empty(rows, out_features)
    if rows == 1 or not _has_dot(x.device):
        out = 8
        _int8_row_by_row[(rows, triton.cdiv(out_features, out))](
            x,
            weight,
            scale,
            bias,
            output,
            out_features,
            in_features,
            x.stride(0),
            OUT=out,
            IN=1024,
            num_warps=4,
        )
        return output
    out = 32
    _int8_rows[(triton.cdiv(out_features, out),)](
        x,
        weight,
        scale,
        bias,
        output,
        rows,
        out_features,
        in_features,
        x.stride(0),
        ROWS=max(16, triton.next_power_of_2(rows)),
        OUT=out,
        IN=128,
        num_warps=4,
        num_stages=4,
    )
    return output
