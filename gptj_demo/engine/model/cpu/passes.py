"""A pass of some rows through all layers and the head, in items that two threads take in turn.

A layer has two kinds of items. The first kind computes a group of heads: the norm, the first
product's columns of these heads, rotation, attention and activation. The second kind computes some
columns of the second product. A thread takes the next item by adding to a counter, and waits until
the items before it are done where it needs them. No sum is divided, so the results are the same to
the last bit with one thread and with two.

Each thread reads its share of the weights only, so two are faster even for one row. They wait for
each other twice a layer. They do not sleep meanwhile, because waking a thread takes longer than a
layer.
"""

from __future__ import annotations

import functools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from gptj_demo.engine.model.cpu.atomics import (
    add_atomic,
    give_way,
    pause,
    read_atomic,
    write_atomic,
)
from gptj_demo.engine.model.cpu.attention import attend
from gptj_demo.engine.model.cpu.elementwise import gelu, layer_norm, rotate_and_store
from gptj_demo.engine.model.cpu.layers import TILE, multiply
from gptj_demo.engine.model.cpu.vectors import PANEL
from gptj_demo.engine.numba_cache import cached_njit

# Places in the state that the threads share. Those that change often have cache lines of their own.
_NEXT, _DONE = 0, 16  # items that were taken, and that are done
_PASS, _DISMISSED = 32, 33  # the number of the pass, and whether helpers shall end
_ROWS, _FIRST, _WANTS_LOGITS = 48, 49, 50  # see `_lead`
_STATE = 64

_MOST_PARTS = 8  # of a product or of the heads
_HELP_SECONDS = 0.002  # how long a helper waits for the next pass: longer than a step's other work
_PAUSES = 32  # after which a helper that waits lets other threads run


@cached_njit(error_model="numpy")
def _groups(heads: int, head_dim: int) -> int:
    """The most groups of heads, up to _MOST_PARTS, whose columns are whole panels; at least 1."""
    for groups in range(min(heads, _MOST_PARTS), 1, -1):
        if heads % groups == 0 and heads // groups * head_dim % PANEL == 0:
            return groups
    return 1


@cached_njit(error_model="numpy")
def _count_items(model: Any, ends: Any, storage: Any) -> Any:
    """Of a layer: groups of heads, and parts of the second product; of the head: parts."""
    groups = _groups(storage.shape[1] // 2, storage.shape[4])
    return groups, min(model[4].shape[1], _MOST_PARTS), min(len(ends[2]), _MOST_PARTS)


@cached_njit(error_model="numpy")
def _enter(
    layer: int, group: int, groups: int, rows: int, first: int, model: Any, at: Any, to: Any
) -> None:
    """A group of heads: from hidden states to the inputs of the second product, in `joined`.

    Rows before `first` store their keys and values only.
    """
    norm_weight, norm_bias, weights, biases = model[:4]
    storage, tables, slots, positions, cosines, sines, epsilon, lanes, vectors = at
    hidden, fused, joined, normed = to
    stored, weight, bias = storage[layer], weights[layer], biases[layer]
    heads, panels = stored.shape[0] // 2, weight.shape[0]
    d_model, d_ff = hidden.shape[1], joined.shape[1] - hidden.shape[1]
    layer_norm(hidden[:rows], norm_weight[layer], norm_bias[layer], epsilon, normed)
    begin, end = group * heads // groups, (group + 1) * heads // groups
    if groups == 1:  # columns of queries, keys, values and the rest may share a panel
        multiply(normed, 0, rows, weight, (0, panels), bias, fused)
        left, right = 0, d_ff
    else:
        each = d_model // groups // PANEL
        for part in range(3):
            panel = (part * groups + group) * each
            since = first if part == 0 else 0  # only queries are not stored
            multiply(normed, since, rows, weight, (panel, panel + each), bias, fused)
        before = 3 * d_model // PANEL
        panel = before + group * (panels - before) // groups
        last = before + (group + 1) * (panels - before) // groups
        multiply(normed, first, rows, weight, (panel, last), bias, fused)
        left, right = (panel - before) * PANEL, min((last - before) * PANEL, d_ff)
    own, own_slots, own_positions = fused[:rows], slots[:rows], positions[:rows]
    for head in range(begin, end):
        rotate_and_store(own, stored, tables, own_slots, own_positions, cosines, sines, head)
    attend(
        own[first:],
        stored,
        tables,
        own_slots[first:],
        own_positions[first:],
        lanes,
        vectors,
        joined[first:],
        begin,
        end,
    )
    for row in range(first, rows):
        entering = own[row, 3 * d_model + left : 3 * d_model + right]
        leaving = joined[row, d_model + left : d_model + right]
        for i in range(right - left):
            leaving[i] = gelu(entering[i])


@cached_njit(error_model="numpy")
def _leave(panels: Any, rows: int, first: int, weight: Any, bias: Any, to: Any) -> None:
    """Some columns of the second product, added to `hidden`."""
    hidden, joined, added = to
    multiply(joined, first, rows, weight, panels, bias, added)
    for row in range(first, rows):
        for i in range(panels[0] * PANEL, min(panels[1] * PANEL, hidden.shape[1])):
            hidden[row, i] += added[row, i]


@cached_njit(error_model="numpy")
def _work(state: Any, model: Any, ends: Any, at: Any, arrays: Any, normed: Any) -> None:
    """Take items until none is left; `normed` belongs to this thread alone."""
    hidden, fused, joined, added, logits = arrays
    weight_out, bias_out = model[4:]
    norm_weight, norm_bias, head_weight, head_bias = ends
    storage, epsilon = at[0], at[6]
    groups, parts, head_parts = _count_items(model, ends, storage)
    layers, each = len(weight_out), groups + parts
    items = layers * each + head_parts
    while True:
        item = add_atomic(state, _NEXT, 1)
        if item >= items:  # the same number in all passes, because a new one may have begun
            return
        rows, first = read_atomic(state, _ROWS), read_atomic(state, _FIRST)
        layer = min(item // each, layers)
        number = item - layer * each
        needed = layer * each
        if layer < layers and number >= groups:
            needed += groups
        while read_atomic(state, _DONE) < needed:
            pause()
        if layer < layers - 1:
            first = 0
        if layer == layers:
            if read_atomic(state, _WANTS_LOGITS) != 0:
                panels = len(head_weight)
                part = number * panels // head_parts, (number + 1) * panels // head_parts
                layer_norm(hidden[first:rows], norm_weight, norm_bias, epsilon, normed)
                multiply(normed, 0, rows - first, head_weight, part, head_bias, logits)
        elif number < groups:
            to = hidden, fused, joined, normed
            _enter(layer, number, groups, rows, first, model, at, to)
        else:
            panels, number = weight_out.shape[1], number - groups
            part = number * panels // parts, (number + 1) * panels // parts
            _leave(part, rows, first, weight_out[layer], bias_out[layer], (hidden, joined, added))
        add_atomic(state, _DONE, 1)


@cached_njit(error_model="numpy")
def _lead(
    state: Any,
    rows: int,
    first: int,
    wants_logits: bool,
    is_called: bool,
    given: Any,
    normed: Any,
) -> None:
    """Run a pass over the first `rows` rows of the arrays; returns when all of it is done.

    `is_called` says whether a helper takes part. `given` are the arguments of `_work`.
    """
    model, ends, at, arrays = given
    groups, parts, head_parts = _count_items(model, ends, at[0])
    items = len(model[4]) * (groups + parts) + head_parts
    write_atomic(state, _DONE, 0)
    write_atomic(state, _ROWS, rows)
    write_atomic(state, _FIRST, first)
    write_atomic(state, _WANTS_LOGITS, wants_logits)
    write_atomic(state, _NEXT, 0)  # last: whoever takes an item sees the rest
    if is_called:
        add_atomic(state, _PASS, 1)
    _work(state, model, ends, at, arrays, normed)
    while read_atomic(state, _DONE) < items:
        pause()


@cached_njit(error_model="numpy")
def _help(state: Any, known: int, patience: int, given: Any, normed: Any) -> None:
    """Help with each pass after number `known`, until none comes for `patience` waits."""
    model, ends, at, arrays = given
    while read_atomic(state, _DISMISSED) == 0:
        waits = 0
        while read_atomic(state, _PASS) == known:
            _wait(state, known)
            waits += 1
            if waits >= patience or read_atomic(state, _DISMISSED) != 0:
                return
        known = read_atomic(state, _PASS)
        _work(state, model, ends, at, arrays, normed)


@cached_njit(error_model="numpy")
def _wait(state: Any, known: int) -> None:
    """Wait for up to `_PAUSES` pauses; return early if the pass after number `known` begins."""
    for _ in range(_PAUSES):
        if read_atomic(state, _PASS) != known:
            return
        pause()
    give_way()


@functools.cache
def _patience() -> int:
    """How many waits take `_HELP_SECONDS`: a pause takes 2 to 50 ns."""
    state, times = np.zeros(_STATE, np.int64), []
    for _ in range(20):
        begin = time.perf_counter()
        _wait(state, 0)
        times.append(time.perf_counter() - begin)
    return max(1, int(_HELP_SECONDS / min(times)))


class Weights(NamedTuple):
    """A model's arrays, for `Pass`."""

    layers: tuple[np.ndarray, ...]
    """Norm's weight and bias, first product's, second product's, each for all layers."""
    ends: tuple[np.ndarray, ...]
    """The last norm's weight and bias, the head's."""
    rotation: tuple[np.ndarray, np.ndarray]
    """Cosines and sines [context, rotary_dim / 2]."""
    epsilon: float
    head_shape: tuple[tuple[int, ...], tuple[int, ...]]
    """`lanes` and `vectors` of `attend`."""

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """Columns of hidden states, the first product, the second one's input and its result."""
        layers = self.layers
        return layers[0].shape[1], layers[3].shape[1], layers[4].shape[2], layers[5].shape[1]


class Pass:
    """Passes of up to TILE rows, one at a time, in arrays of its own."""

    def __init__(self, weights: Weights, pages: tuple[np.ndarray, np.ndarray]) -> None:
        """`pages` are the storage and the tables of the KV cache."""
        layers, ends = weights.layers, weights.ends
        widths = weights.widths
        arrays = tuple(_zeros(width) for width in (*widths, len(ends[3])))
        self._hidden, self._logits = arrays[0], arrays[-1]
        self._slots, self._positions = np.zeros((2, TILE), np.int64)
        rows = self._slots, self._positions
        at = (*pages, *rows, *weights.rotation, weights.epsilon, *weights.head_shape)
        self._state = np.zeros(_STATE, np.int64)
        self._given = layers, ends, at, arrays
        self._normed, self._helpers_normed = _zeros(widths[0]), _zeros(widths[0])
        self._helper: Future[None] | None = None

    def run(
        self,
        hidden: np.ndarray,
        slots: np.ndarray,
        positions: np.ndarray,
        first: int,
        *,
        wants_logits: bool,
        helpers: ThreadPoolExecutor | None = None,
    ) -> np.ndarray:
        """Logits [rows - first, columns], else hidden states [rows - first, d_model].

        `hidden` are the embeddings of up to TILE rows. Rows before `first` only store keys and
        values. A thread of `helpers` takes a part of the work. The next pass overwrites the result.
        """
        rows = len(hidden)
        self._hidden[:rows], self._slots[:rows], self._positions[:rows] = hidden, slots, positions
        if helpers is not None and (self._helper is None or self._helper.done()):
            self._state[_DISMISSED] = 0
            known = int(self._state[_PASS])
            self._helper = helpers.submit(
                _help, self._state, known, _patience(), self._given, self._helpers_normed
            )
        is_called = helpers is not None
        _lead(self._state, rows, first, wants_logits, is_called, self._given, self._normed)
        return self._logits[: rows - first] if wants_logits else self._hidden[first:rows]

    def dismiss(self) -> None:
        """Make the helper return at once, so that its thread can do other work."""
        self._state[_DISMISSED] = 1

    def compile(self) -> None:
        """Compile the code of both threads, or take it from numba's cache."""
        _help(self._state, 0, 1, self._given, self._helpers_normed)
        none = self._positions[:0]
        self.run(self._hidden[:0], none, none, 0, wants_logits=False)


def _zeros(width: int) -> np.ndarray:
    return np.zeros((TILE, width), np.float32)
