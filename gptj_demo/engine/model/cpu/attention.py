"""Attention over the keys and values of the pages, for the rows of a step.

Neighbouring rows of one slot attend together, so that the keys and values that they share are read
once. A row's sums have the same order either way, so its results are the same to the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gptj_demo.engine.model.cpu.elementwise import exp, largest
from gptj_demo.engine.model.cpu.exact import sum_of
from gptj_demo.engine.model.cpu.vectors import dot_keys, mix_values
from gptj_demo.engine.numba_cache import cached_njit
from gptj_demo.pages import PAGE_TOKENS

_TOGETHER = 4  # rows
_ONE, _MANY = (0,), (0,) * _TOGETHER


@cached_njit(error_model="numpy")
def attend(
    fused: Any,
    storage: Any,
    tables: Any,
    slots: Any,
    positions: Any,
    lanes: Any,
    vectors: Any,
    mixed: Any,
    begin: int,
    end: int,
) -> None:
    """The attention of the heads from `begin` to `end`, into `mixed` [rows, at least d_model].

    The first five arguments are as `rotate_and_store` has left them; rows of one slot are in the
    order of their positions. The product of the lengths of `lanes` and `vectors` is head_dim.
    """
    head_dim = storage.shape[3]
    scale = np.float32(1.0 / math.sqrt(head_dim))
    scores = np.empty((_TOGETHER, tables.shape[1] * PAGE_TOKENS), np.float32)
    inverses = np.empty(_TOGETHER, np.float32)
    for head in range(begin, end):
        at = head * head_dim
        row = 0
        while row < slots.shape[0]:
            count = _rows_together(slots, positions, row)
            table, own = tables[slots[row]], positions[row] + 1
            queries = fused[row : row + count, at : at + head_dim]
            out = mixed[row : row + count, at : at + head_dim]
            place = storage, table, head, own
            if count == _TOGETHER:
                _attend_together(
                    queries, place, scale, _MANY, lanes, vectors, scores, inverses, out
                )
            else:
                _attend_together(queries, place, scale, _ONE, lanes, vectors, scores, inverses, out)
            row += count


@cached_njit(error_model="numpy")
def _attend_together(
    queries: Any,
    place: Any,
    scale: Any,
    rows: Any,
    lanes: Any,
    vectors: Any,
    scores: Any,
    inverses: Any,
    out: Any,
) -> None:
    """The attention of one head for as many neighbouring rows as the tuple `rows` has entries.

    `place` is the layer's storage, the slot's table, the head, and the positions that the first row
    attends to; each later row attends to one more.
    """
    storage, table, head, own = place
    count, of_values = len(rows), storage.shape[0] // 2 + head
    dot_keys(queries, storage, table, head, 0, own, scores, rows, lanes, vectors)
    for i in range(1, count):
        last, to = queries[i:], scores[i:]
        dot_keys(last, storage, table, head, own, own + i, to, _ONE, lanes, vectors)
    for i in range(count):
        inverses[i] = _softmax(scores[i, : own + i], scale)
        for j in range(out.shape[1]):  # an assignment to a slice takes long to compile
            out[i, j] = np.float32(0.0)
    mix_values(scores, storage, table, of_values, 0, own, out, rows, lanes, vectors)
    for i in range(1, count):
        last, to = scores[i:], out[i:]
        mix_values(last, storage, table, of_values, own, own + i, to, _ONE, lanes, vectors)
    for i in range(count):
        for j in range(out.shape[1]):
            out[i, j] *= inverses[i]


@cached_njit(error_model="numpy")
def _softmax(scores: Any, scale: Any) -> Any:
    """Replace scores by exp((score - the largest) * scale); returns 1 / their sum."""
    peak = largest(scores)
    for j in range(scores.shape[0]):
        scores[j] = exp((scores[j] - peak) * scale)
    return np.float32(1.0) / sum_of(scores, scores.shape[0])


@cached_njit(error_model="numpy")
def _rows_together(slots: Any, positions: Any, row: int) -> int:
    """_TOGETHER where the rows from `row` on are neighbours in one slot, else 1."""
    if row + _TOGETHER > slots.shape[0]:
        return 1
    for i in range(1, _TOGETHER):
        if slots[row + i] != slots[row] or positions[row + i] != positions[row] + i:
            return 1
    return _TOGETHER
