"""The inner loops of attention: each result has the same bits, whatever is computed beside it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit

from gptj_demo.engine.model.cpu.vectors import LANES, dot_keys, mix_values
from gptj_demo.pages import PAGE_TOKENS

HEADS, PAGES = 3, 5
TOGETHER = 4


@njit
def _dot(
    queries: Any, stored: Any, table: Any, begin: int, end: int, out: Any, rows: Any, shape: Any
) -> None:
    dot_keys(queries, stored, table, 1, begin, end, out, rows, shape[0], shape[1])


@njit
def _mix(
    weights: Any, stored: Any, table: Any, begin: int, end: int, out: Any, rows: Any, shape: Any
) -> None:
    mix_values(weights, stored, table, 1, begin, end, out, rows, shape[0], shape[1])


class Cache:
    """Random keys or values of some positions, in pages that are not in order."""

    def __init__(self, width: int, *, is_narrow: bool) -> None:
        self.random = np.random.default_rng(width)
        lanes = math.gcd(width, LANES)
        self.shape = (0,) * lanes, (0,) * (width // lanes)
        values = self.numbers(HEADS, PAGES + 1, PAGE_TOKENS, width)
        bits = values.view(np.uint32) >> 16
        self.stored: Any = bits.astype(np.uint16) if is_narrow else values
        self.table = np.append(self.random.permutation(PAGES), PAGES)
        read = (bits << 16).view(np.float32) if is_narrow else values
        self.rows = np.concatenate([read[1, page] for page in self.table])

    def numbers(self, *shape: int) -> Any:
        return self.random.standard_normal(shape).astype(np.float32)


@pytest.fixture(params=[(8, False), (16, True), (48, False), (64, False), (80, True), (256, True)])
def cache(request: pytest.FixtureRequest) -> Cache:
    width, is_narrow = request.param
    return Cache(width, is_narrow=is_narrow)


@pytest.mark.parametrize(("begin", "end"), [(0, 70), (0, 1), (5, 5), (3, 40), (17, 18)])
@pytest.mark.parametrize("rows", [1, TOGETHER])
def test_the_dot_product_of_a_key_does_not_depend_on_its_neighbours(
    cache: Cache, rows: int, begin: int, end: int
) -> None:
    queries = cache.numbers(rows, cache.rows.shape[1])
    out = np.full((rows, 80), np.nan, np.float32)
    _dot(queries, cache.stored, cache.table, begin, end, out, (0,) * rows, cache.shape)
    assert np.isnan(out[:, :begin]).all()
    assert np.isnan(out[:, end:]).all()
    exact = queries.astype(np.float64) @ cache.rows[begin:end].T.astype(np.float64)
    np.testing.assert_allclose(out[:, begin:end], exact, rtol=1e-4, atol=1e-4)
    alone = np.zeros_like(out)
    for row in range(rows):
        for at in range(begin, end):
            own = queries[row : row + 1], cache.stored, cache.table, at, at + 1
            _dot(*own, alone[row : row + 1], (0,), cache.shape)
    assert (out[:, begin:end] == alone[:, begin:end]).all()


def test_values_are_added_in_order_for_any_number_of_rows(cache: Cache) -> None:
    width = cache.rows.shape[1]
    weights = cache.numbers(TOGETHER, 80)
    out = np.zeros((TOGETHER, width), np.float32)
    _mix(weights, cache.stored, cache.table, 3, 70, out, (0,) * TOGETHER, cache.shape)
    exact = weights[:, 3:70].astype(np.float64) @ cache.rows[3:70].astype(np.float64)
    np.testing.assert_allclose(out, exact, rtol=1e-4, atol=1e-4)
    alone = np.zeros_like(out)
    for row in range(TOGETHER):
        for begin, end in ((3, 20), (20, 70)):
            own = weights[row : row + 1], cache.stored, cache.table, begin, end
            _mix(*own, alone[row : row + 1], (0,), cache.shape)
    assert (out == alone).all()
