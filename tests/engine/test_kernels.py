"""The attention of a captured decode step, against plain loops, in plain torch and in Triton."""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gptj_demo.engine.model.cuda import kernels as torch_kernels
from gptj_demo.pages import PAGE_TOKENS
from tests.engine.devices import DEVICE, NO_GPU, NO_TRITON


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE, dtype)


def ints(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, device=DEVICE)


# ---- attention


def paged(slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shuffled pages of the cache and their tables, from [slots, 2 * heads, context, head_dim]."""
    count, heads, context, head_dim = slots.shape
    each = context // PAGE_TOKENS
    order = list(range(count * each))
    random.Random(6).shuffle(order)
    tables = ints(order).view(count, each)
    pages = slots.new_empty(heads, count * each, PAGE_TOKENS, head_dim)
    pages[:, tables] = slots.view(count, heads, each, PAGE_TOKENS, head_dim).transpose(0, 1)
    return pages, tables


def by_slot(pages: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """The inverse of `paged`."""
    return pages[:, tables].transpose(0, 1).flatten(2, 3)


SHAPES = [  # heads, head_dim, rotary_dim, context, dtype
    (1, 2, 2, 32, torch.float32),
    (3, 9, 6, 160, torch.float32),
    (4, 16, 16, 288, torch.float32),
    (2, 40, 8, 64, torch.float16),
    (2, 64, 32, 2048, torch.float16),
    (2, 256, 64, 416, torch.bfloat16),
]
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def some_rows(context: int) -> tuple[list[int], list[int]]:
    """Slots and positions of rows; two rows have no slot, and the first and last position occur."""
    edges = [p for p in (127, 128, 255, 256) if p < context - 1]
    positions = [context // 2, 0, 0, context - 1, *edges, 0, random.Random(7).randrange(context)]
    slots = random.Random(8).sample(range(len(positions) + 2), len(positions))
    slots[2] = slots[-2] = -1
    return slots, positions


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_row_attends_to_its_own_positions_of_its_slot(
    kernels: Any, shape: tuple[int, int, int, int, torch.dtype]
) -> None:
    heads, head_dim, _, context, dtype = shape
    slots, positions = some_rows(context)
    stored = randn(len(slots) + 2, 2 * heads, context, head_dim, seed=1, dtype=dtype)
    queries = randn(len(slots), heads, head_dim, seed=2, dtype=dtype)
    mixed = kernels.attend(queries, ints(slots), ints(positions), *paged(stored), context)
    assert mixed.shape == (len(slots), heads * head_dim)
    assert mixed.dtype == dtype
    for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
        if slot < 0:
            continue
        keys, values = stored[slot, :, : position + 1].double().split(heads)
        scores = (keys @ queries[row].double()[:, :, None])[:, :, 0] / head_dim**0.5
        expected = (scores.softmax(dim=1)[:, None] @ values)[:, 0].flatten()
        assert (mixed[row].double() - expected).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_keys_are_rotated_and_stored_at_the_place_of_their_row_and_nowhere_else(
    kernels: Any, shape: tuple[int, int, int, int, torch.dtype]
) -> None:
    heads, head_dim, rotary_dim, context, dtype = shape
    slots, positions = some_rows(context)
    before = randn(len(slots) + 2, 2 * heads, context, head_dim, seed=3, dtype=dtype)
    expected = before.clone()
    pages, tables = paged(before)
    fused = randn(len(slots), 3 * heads * head_dim + 5, seed=4, dtype=dtype)
    kept = fused.clone()
    angles = randn(context, rotary_dim // 2, seed=5)
    rotation = torch.complex(angles.cos(), angles.sin())
    places = ints(slots), ints(positions)
    queries = kernels.rotate_and_store(fused, rotation, *places, pages, tables)
    stored = by_slot(pages, tables)
    assert torch.equal(fused, kept)

    def rotated(heads_of_row: torch.Tensor, position: int) -> torch.Tensor:
        turned = heads_of_row.double().clone()
        for pair in range(rotary_dim // 2):
            a, b = turned[:, 2 * pair].clone(), turned[:, 2 * pair + 1].clone()
            cos, sin = angles[position, pair].double().cos(), angles[position, pair].double().sin()
            turned[:, 2 * pair], turned[:, 2 * pair + 1] = a * cos - b * sin, a * sin + b * cos
        return turned

    for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
        if slot < 0:
            continue
        three = fused[row, : 3 * heads * head_dim].view(3, heads, head_dim)
        expected[slot, :heads, position] = rotated(three[1], position).to(dtype)
        expected[slot, heads:, position] = three[2]
        difference = (queries[row].double() - rotated(three[0], position)).abs().max()
        assert difference < 2 * TOLERANCE[dtype]
    assert (stored.double() - expected.double()).abs().max() < 2 * TOLERANCE[dtype]
    touched = (stored != before).any(dim=3).any(dim=1).nonzero().tolist()
    own = zip(slots, positions, strict=True)
    assert touched == sorted([slot, position] for slot, position in own if slot >= 0)


def test_a_row_gives_the_same_bits_in_any_batch_and_order(kernels: Any) -> None:
    heads, head_dim, context = 3, 16, 288
    stored = paged(randn(9, 2 * heads, context, head_dim, seed=6))
    queries = randn(5, heads, head_dim, seed=7)
    slots, positions = [3, 8, 0, 5, 1], [287, 130, 4, 60, 0]
    whole = kernels.attend(queries, ints(slots), ints(positions), *stored, context)
    for order in ([4, 3, 2, 1, 0], [1, 1, 1, 1, 1], [2, 0, 2, 0, 2]):
        some_slots, some_positions = ([x[n] for n in order] for x in (slots, positions))
        some = kernels.attend(
            queries[order], ints(some_slots), ints(some_positions), *stored, context
        )
        assert torch.equal(some, whole[order])


def test_rows_that_attend_in_parts_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    heads, head_dim, context = 3, 16, 288
    stored = paged(randn(9, 2 * heads, context, head_dim, seed=6))
    queries = randn(5, heads, head_dim, seed=7)
    places = ints([3, 8, 0, 5, 1]), ints([287, 130, 4, 60, 0])
    whole = torch_kernels.attend(queries, *places, *stored, context)
    for positions in (1, 2 * context, 3 * context):
        monkeypatch.setattr(torch_kernels, "MOST_GATHERED", positions)
        parts = torch_kernels.attend(queries, *places, *stored, context)
        assert (parts - whole).abs().max() < 1e-6


@NO_TRITON
def test_triton_reads_nothing_beyond_a_row_s_own_length(triton_kernels: Any) -> None:
    heads, head_dim, context = 2, 9, 160
    stored = randn(4, 2 * heads, context, head_dim, seed=8)
    slots, positions = [2, 0, -1], [130, 0, 0]
    queries = randn(3, heads, head_dim, seed=9)
    arguments = queries, ints(slots), ints(positions)
    expected = triton_kernels.attend(*arguments, *paged(stored), context)
    poisoned = stored.clone()
    poisoned[[1, 3]] = torch.nan
    poisoned[2, :, 131:] = torch.nan
    poisoned[0, :, 1:] = torch.nan
    assert torch.equal(triton_kernels.attend(*arguments, *paged(poisoned), context), expected)
    assert not expected[2].any()  # a row that pads the batch


# ---- finding Triton


def test_without_a_gpu_triton_is_not_looked_for() -> None:
    if DEVICE == "cpu":
        assert torch_kernels.find_triton() is None


def test_the_log_reports_why_triton_does_not_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find: Callable[[], object] = torch_kernels.find_triton.__wrapped__
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # importing it fails
    monkeypatch.setitem(sys.modules, "gptj_demo.engine.model.cuda.triton_kernels", None)
    assert find() is None
    assert "Triton's kernels cannot be used: " in caplog.text


@NO_TRITON
def test_a_lack_of_memory_while_triton_is_tried_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = functools.cache(torch_kernels.find_triton.__wrapped__)
    eye, is_full = torch.eye, True

    def allocate(count: int, *, dtype: torch.dtype, device: str) -> torch.Tensor:
        if is_full:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")
        return eye(count, dtype=dtype)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "eye", allocate)
    with pytest.raises(torch.OutOfMemoryError):
        find()
    is_full = False
    arange, ones = torch.arange, torch.ones
    monkeypatch.setattr(torch, "arange", lambda *values, device: arange(*values))
    monkeypatch.setattr(torch, "ones", lambda *sizes, device: ones(*sizes))
    kernels = importlib.import_module("gptj_demo.engine.model.cuda.triton_kernels")
    monkeypatch.setattr(kernels, "int8_sum", lambda products, bias: products[0][0] + bias)
    assert find() is kernels


@NO_GPU
@NO_TRITON
def test_on_a_gpu_triton_is_found_to_work() -> None:
    assert torch_kernels.find_triton() is not None
