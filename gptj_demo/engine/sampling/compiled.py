"""Temperature, top-k, top-p, min-p and the draw on the CPU, compiled: one call for all rows.

Thresholds are found without sorting, by bisection over the numbers as integers. Each row is
computed by itself, so its token does not depend on the other rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int32, int64, njit, uint64

from gptj_demo.engine.model.cpu.elementwise import exp, largest, largest_size, order
from gptj_demo.engine.model.cpu.vectors import as_double, as_float
from gptj_demo.engine.numba_cache import cached_njit
from gptj_demo.engine.sampling import noise

_LEAST = np.float32(-87.0)  # further below the peak the weight is 0: exp underflows in float32
_NONE = np.float32(-np.inf)
_FAST = {"reassoc", "contract", "nsz"}

_GAMMA = np.uint64(noise.GAMMA)
_FACTOR_1, _FACTOR_2 = (np.uint64(factor) for factor in noise.FACTORS)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = (np.uint64(shift) for shift in noise.SHIFTS)
_TO_BITS, _UNIT = np.uint64(64 - noise.BITS), 2.0**-noise.BITS
_UPPER = np.uint64(2**noise.BITS - 2 ** (noise.BITS - noise.SHIFTS[2]))
"""The bits of a uniform that the last step of the hash does not change."""
_ONE = np.uint64(np.float64(1.0).view(np.uint64))  # the bits of 1.0
_BLOCK = 256
"""Token ids that are searched together for a candidate: most blocks have none."""


@cached_njit(fastmath=_FAST)
def _mass_above(weights: Any, keys: Any, count: int, limit: Any) -> Any:
    """The sum of the weights whose key is greater than `limit`."""
    mass: Any = 0.0
    for i in range(count):
        mass += weights[i] if keys[i] > limit else np.float32(0.0)
    return mass


@cached_njit()
def _number_from(keys: Any, limit: Any) -> Any:
    """How many keys are at least `limit`."""
    found = int32(0)
    for i in range(keys.shape[0]):
        found += int32(keys[i] >= limit)
    return found


@cached_njit()
def _kth_largest(scaled: Any, keys: Any, k: int) -> Any:
    """The k-th largest of a row; `keys` is a buffer for as many integers."""
    bits = scaled.view(np.int32)
    for i in range(scaled.shape[0]):
        keys[i] = order(bits[i])
    low, high = -(1 << 31), (1 << 31) - 1
    while low < high:
        middle = (low + high + 1) >> 1
        if _number_from(keys, int32(middle)) >= k:
            low = middle
        else:
            high = middle - 1
    return as_float(order(int32(low)))


@cached_njit()
def _nucleus(
    scaled: Any, weights: Any, least: Any, top_p: Any, light_last: bool, near: Any, keys: Any
) -> Any:
    """The least value that top-p keeps, if top-k keeps the values of at least `least`.

    `light_last` says that a lighter token never has a larger value. `near` and `keys` are buffers
    as long as the row.
    """
    size = scaled.shape[0]
    mass: Any = 0.0
    for i in range(size):
        if scaled[i] >= least:
            mass += weights[i]
    wanted = top_p * mass
    # Tokens lighter than this weigh less together than what top-p removes. They can be skipped only
    # if they are the last in the order.
    too_small = (mass - wanted) / size if light_last else 0.0
    bits, count = scaled.view(np.int32), 0
    low, high = (1 << 31) - 1, -(1 << 31)
    for i in range(size):
        if weights[i] >= too_small and weights[i] > 0 and scaled[i] >= least:
            key = order(bits[i])
            near[count], keys[count] = weights[i], key
            count += 1
            low, high = min(low, key), max(high, key)
    while low < high:
        middle = (low + high) >> 1
        if _mass_above(near, keys, count, int32(middle)) < wanted:
            high = middle
        else:
            low = middle + 1
    return as_float(order(int32(high)))


@cached_njit(fastmath=_FAST, error_model="numpy")
def _weigh(scaled: Any, peak: Any, weights: Any) -> None:
    """weights = exp(scaled - peak)"""
    for i in range(scaled.shape[0]):
        below = scaled[i] - peak
        weights[i] = exp(below) if below > _LEAST else np.float32(0.0)


@cached_njit(error_model="numpy")
def thresholds(scaled: Any, top_k: Any, top_p: Any, log_min_p: Any, out: Any) -> None:
    """Set `out` [3, rows] to the least values that top-k, top-p and min-p keep; -inf to keep all.

    `scaled` is fp32 [rows, vocabulary]; `top_k` [rows] is the vocabulary's size where it is off,
    `top_p` [rows] 1, and `log_min_p` [rows] -inf.
    """
    size = scaled.shape[1]
    weights, near = np.empty(size, np.float32), np.empty(size, np.float32)
    keys = np.empty(size, np.int32)
    for row in range(scaled.shape[0]):
        values = scaled[row]
        peak = largest(values)
        out[0, row] = out[1, row] = _NONE
        if top_k[row] < size:
            out[0, row] = _kth_largest(values, keys, top_k[row])
        if top_p[row] < 1:
            _weigh(values, peak, weights)
            out[1, row] = _nucleus(values, weights, out[0, row], top_p[row], True, near, keys)
        out[2, row] = peak + log_min_p[row]


@cached_njit(error_model="numpy")
def smallest_kept(values: Any, weights: Any, share: Any, out: Any) -> None:
    """`select.smallest_kept`: `values` and `weights` [rows, vocabulary], the others [rows, 1]."""
    size = values.shape[1]
    near, keys = np.empty(size, np.float32), np.empty(size, np.int32)
    for row in range(values.shape[0]):
        out[row, 0] = _nucleus(values[row], weights[row], _NONE, share[row, 0], False, near, keys)


@njit(inline="always")
def _output(key: Any, index: Any) -> Any:
    """`noise.output`, of uint64s."""
    z = key + (index + uint64(1)) * _GAMMA
    z = (z ^ (z >> _SHIFT_1)) * _FACTOR_1
    z = (z ^ (z >> _SHIFT_2)) * _FACTOR_2
    return z ^ (z >> _SHIFT_3)


@cached_njit(error_model="numpy")
def _has_candidate(weights: Any, key: Any, best: Any) -> Any:
    """Whether a token of a block can score below `best`; the block's first output follows `key`.

    -log(u) is at least 1 - u, so the score is at least (1 - u) / weight, which needs no logarithm.
    """
    found = int64(0)
    for i in range(weights.shape[0]):
        z = key + uint64(i + 1) * _GAMMA
        z = (z ^ (z >> _SHIFT_1)) * _FACTOR_1
        z = (z ^ (z >> _SHIFT_2)) * _FACTOR_2
        # the last step of the hash is left out: the upper bits suffice for a lower bound
        below = ((~z) >> _TO_BITS) & _UPPER
        found += int64(as_double(int64(below | _ONE)) - 1.0 < best * weights[i])
    return found > 0


@cached_njit(error_model="numpy")
def _race(weights: Any, key: Any) -> int:
    """The token id with the smallest -log(u) / weight: see `noise`."""
    best, chosen = np.inf, 0
    for start in range(0, weights.shape[0], _BLOCK):
        stop = min(start + _BLOCK, weights.shape[0])
        # 1 - u is at least half a unit, so tokens with too little weight cannot win
        if largest_size(weights[start:stop]) * best <= 0.5 * _UNIT:
            continue
        if not _has_candidate(weights[start:stop], key + uint64(start) * _GAMMA, best):
            continue
        for i in range(start, stop):
            if weights[i] > 0:
                number = _output(key, uint64(i)) >> _TO_BITS
                u = (np.float64(int64(number)) + 0.5) * _UNIT
                if 1.0 - u < best * weights[i]:
                    score = -np.log(u) / weights[i]
                    if score < best:
                        best, chosen = score, i
    return chosen


@cached_njit(error_model="numpy")
def draw(
    logits: Any,
    temperature: Any,
    top_k: Any,
    top_p: Any,
    log_min_p: Any,
    keys: Any,
    vocabulary: int,
    tokens: Any,
) -> None:
    """One token for each row, by the noise of the row's key.

    `logits` is fp32 [rows, vocabulary or more]; `keys` is uint64 [rows], those of `noise`. The
    others, and `tokens`, are [rows], as in `thresholds`. A temperature of 0 takes the most probable
    token.
    """
    scaled = np.empty((1, vocabulary), np.float32)
    weights = np.empty(vocabulary, np.float32)
    limits = np.empty((3, 1), np.float32)
    for row in range(logits.shape[0]):
        entering, values = logits[row, :vocabulary], scaled[0]
        if temperature[row] == 0:
            peak = largest(entering)
            tokens[row] = 0
            for i in range(vocabulary):
                if entering[i] == peak:
                    tokens[row] = i
                    break
            continue
        for i in range(vocabulary):
            values[i] = entering[i] / temperature[row]
        one = slice(row, row + 1)
        thresholds(scaled, top_k[one], top_p[one], log_min_p[one], limits)
        _weigh(values, largest(values), weights)
        least = max(limits[0, 0], limits[1, 0], limits[2, 0])
        if least > _NONE:
            for i in range(vocabulary):
                weights[i] = weights[i] if values[i] >= least else np.float32(0.0)
        tokens[row] = _race(weights, keys[row])
