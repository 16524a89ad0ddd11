"""Sums, largest entries and fused multiply-adds of compiled code, defined to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from gptj_demo.engine.model.cpu.elementwise import largest, largest_size
from gptj_demo.engine.model.cpu.exact import (
    multiply_add,
    sum_of,
    sum_of_sizes,
    sum_of_squares,
)

LANES = 16


@njit
def _sums(x: Any, length: int, mean: Any) -> Any:
    return sum_of(x, length), sum_of_sizes(x, length), sum_of_squares(x, length, mean)


@njit
def _multiply_add(a: Any, b: Any, c: Any) -> Any:
    return multiply_add(a, b, c)


def expected_sum(x: np.ndarray) -> np.float32:
    """Lanes first, then their sum by halves, then the rest one after another."""
    whole = len(x) // LANES * LANES
    lanes = np.zeros(LANES, np.float32)
    for vector in x[:whole].reshape(-1, LANES):
        lanes = lanes + vector
    while len(lanes) > 1:
        lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
    total = lanes[0]
    for entry in x[whole:]:
        total = total + entry
    return np.float32(total)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100, 1000])
def test_sums_have_a_defined_order(length: int) -> None:
    x = np.random.default_rng(length).standard_normal(length + 20).astype(np.float32)
    mean = np.float32(0.1)
    total, sizes, squares = _sums(x, length, mean)
    assert total == expected_sum(x[:length])
    assert sizes == expected_sum(np.abs(x[:length]))
    assert squares == pytest.approx(((x[:length].astype(np.float64) - 0.1) ** 2).sum(), rel=1e-6)


def test_a_multiply_add_is_rounded_once() -> None:
    a = np.float32(1 + 2**-12)
    assert a * a - a * a == 0
    # the square is 1 + 2**-11 + 2**-24, which float32 does not hold
    assert _multiply_add(a, a, np.float32(-(1 + 2**-11))) == np.float32(2**-24)
    assert a * a - np.float32(1 + 2**-11) == 0


NUMBERS = st.floats(width=32, allow_nan=False)


@given(arrays(np.float32, st.integers(1, 100), elements=NUMBERS))
def test_the_largest_entry_is_that_of_numpy(x: np.ndarray) -> None:
    assert largest(x) == x.max()
    assert largest_size(x) == np.abs(x).max()


@given(arrays(np.float32, (3, 40), elements=NUMBERS), st.integers(1, 40))
def test_the_largest_entry_of_a_part_of_a_row_equals_that_of_numpy(
    x: np.ndarray, length: int
) -> None:
    assert largest(x[1, :length]) == x[1, :length].max()
    assert largest_size(x[1, :length]) == np.abs(x[1, :length]).max()
