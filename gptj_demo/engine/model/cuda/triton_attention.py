"""Triton kernels of a decode step's attention over the KV cache.

Reproducibility: a row's result does not depend on the other rows. Its positions are split into
parts of `PART` from its own beginning, whatever the lengths of the others, and the parts are
combined in a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gptj_demo.pages import PAGE_TOKENS

PART = 128
"""Positions of a row that one program attends to; the parts are combined afterwards."""

_POSITIONS = tl.constexpr(32)  # positions of a part that are loaded together
_PARTS = tl.constexpr(8)  # parts that are combined at a time


@triton.jit
def _rotate_and_store(
    fused,
    rotation,
    slots,
    positions,
    stored,
    tables,
    queries,
    fused_stride,
    page_stride,
    head_stride,
    table_stride,
    heads,
    HEAD_DIM: tl.constexpr,
    ROTARY_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PAGE: tl.constexpr,
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
    page = tl.load(tables + slot * table_stride + position // PAGE)
    # the values of a layer can begin more than 2**31 numbers behind its keys
    target = stored + page * page_stride + tl.cast(head, tl.int64) * head_stride
    target += position % PAGE * HEAD_DIM
    tl.store(target + d, key * cos + partner * sin, mask=inside)
    source += heads * HEAD_DIM
    value = tl.load(source + d, mask=inside, other=0.0)
    tl.store(target + tl.cast(heads, tl.int64) * head_stride + d, value, mask=inside)


@triton.jit
def _attend_part(
    queries,
    stored,
    tables,
    slots,
    positions,
    mixed,
    peaks,
    masses,
    scale,
    page_stride,
    head_stride,
    table_stride,
    heads,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    PART: tl.constexpr,
    PAGE: tl.constexpr,
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
    table = tables + slot * table_stride
    keys = stored + tl.cast(head, tl.int64) * head_stride
    values = keys + tl.cast(heads, tl.int64) * head_stride
    peak = -float("inf")
    mass = 0.0
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(begin, min(begin + PART, length), _POSITIONS):
        at = first + tl.arange(0, _POSITIONS)
        own = at < length
        pages = tl.load(table + at // PAGE, mask=own, other=0)
        places = (pages * page_stride + at % PAGE * HEAD_DIM)[:, None] + d[None, :]
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
    # padding rows have no mass and get zeros
    total = tl.where(slot < 0, 0.0, total / tl.where(slot < 0, 1.0, mass))
    tl.store(output + (row * heads + head) * HEAD_DIM + d, total, mask=inside)


def rotate_and_store(
    fused: torch.Tensor,
    rotation: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
    tables: torch.Tensor,
) -> torch.Tensor:
    """As `kernels.rotate_and_store`; a padding row's queries are left as they are in memory."""
    rows = fused.shape[0]
    heads, head_dim = stored.shape[0] // 2, stored.shape[3]
    queries = fused.new_empty(rows, heads, head_dim)
    _rotate_and_store[(rows, heads)](
        fused,
        torch.view_as_real(rotation),
        slots,
        positions,
        stored,
        tables,
        queries,
        fused.stride(0),
        stored.stride(1),
        stored.stride(0),
        tables.stride(0),
        heads,
        HEAD_DIM=head_dim,
        ROTARY_DIM=2 * rotation.shape[1],
        BLOCK=triton.next_power_of_2(head_dim),
        PAGE=PAGE_TOKENS,
        num_warps=1,
    )
    return queries


def attend(
    queries: torch.Tensor,
    slots: torch.Tensor,
    positions: torch.Tensor,
    stored: torch.Tensor,
    tables: torch.Tensor,
    longest: int,
) -> torch.Tensor:
    """As `kernels.attend`; a padding row gets zeros. Sums are in fp32.

    Flash-decoding (Dao et al. 2023) with parts of a fixed size. Beyond a row's own length nothing
    is read, and programs with nothing to do end at once.
    """
    rows, heads, head_dim = queries.shape
    parts = triton.cdiv(longest, PART)
    block = triton.next_power_of_2(head_dim)
    # `_put_together` does not read the parts that `_attend_part` leaves out
    mixed = queries.new_empty((rows, heads, parts, head_dim), dtype=torch.float32)
    peaks = queries.new_empty((rows, heads, parts), dtype=torch.float32)
    masses = torch.empty_like(peaks)
    _attend_part[(rows, heads, parts)](
        queries,
        stored,
        tables,
        slots,
        positions,
        mixed,
        peaks,
        masses,
        head_dim**-0.5,
        stored.stride(1),
        stored.stride(0),
        tables.stride(0),
        heads,
        HEAD_DIM=head_dim,
        BLOCK=block,
        PART=PART,
        PAGE=PAGE_TOKENS,
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
