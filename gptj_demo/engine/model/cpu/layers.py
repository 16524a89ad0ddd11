"""The compiled functions for the prompts of `CompiledModel`: a layer's halves, and the logits.

Each sum has a fixed order. So the results of a row do not depend on the other rows, and a token has
the same results in a prompt and as a generated token, to the last bit.

A layer has two halves. `enter_layer` computes queries, keys and values, and stores the last two;
`leave_layer` attends to what is stored. Tokens of a prompt may be spread over threads: all of them
must have entered a layer before one of them leaves it.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.engine.model.cpu.attention import attend
from gptj_demo.engine.model.cpu.elementwise import gelu, layer_norm, rotate_and_store
from gptj_demo.engine.model.cpu.vectors import MOST_ROWS, PANEL, multiply_panel
from gptj_demo.engine.numba_cache import cached_njit

TILE = 64
"""Rows that go through the model together, so that their intermediate results stay in the cache."""


@cached_njit(error_model="numpy")
def multiply(x: Any, first: int, end: int, weight: Any, panels: Any, bias: Any, out: Any) -> None:
    """Compute rows `first` to `end` of out = x @ weight + bias, only in the panels (first, end)."""
    for panel in range(panels[0], panels[1]):
        for row in range(first, end, MOST_ROWS):
            multiply_panel(x, row, min(MOST_ROWS, end - row), weight, panel, bias, out)


@cached_njit(error_model="numpy")
def enter_layer(
    hidden: Any,
    slots: Any,
    positions: Any,
    norm_weight: Any,
    norm_bias: Any,
    weight: Any,
    bias: Any,
    storage: Any,
    tables: Any,
    cosines: Any,
    sines: Any,
    epsilon: float,
    stored_only: int,
    normed: Any,
    fused: Any,
) -> None:
    """A layer's norm and first product of up to TILE rows of `hidden` [rows, d_model].

    Queries and the MLP's inputs to its activation are left in `fused`; keys and values are stored.
    The first `stored_only` rows do not leave the layer, so only their keys and values are computed.
    """
    rows, d_model, panels = hidden.shape[0], hidden.shape[1], weight.shape[0]
    layer_norm(hidden, norm_weight, norm_bias, epsilon, normed)
    keys_and_values = d_model // PANEL, (3 * d_model + PANEL - 1) // PANEL
    multiply(normed, 0, stored_only, weight, keys_and_values, bias, fused)
    multiply(normed, stored_only, rows, weight, (0, panels), bias, fused)
    for head in range(storage.shape[0] // 2):
        rotate_and_store(fused, storage, tables, slots, positions, cosines, sines, head)


@cached_njit(error_model="numpy")
def leave_layer(
    hidden: Any,
    slots: Any,
    positions: Any,
    weight: Any,
    bias: Any,
    storage: Any,
    tables: Any,
    lanes: Any,
    vectors: Any,
    fused: Any,
    joined: Any,
    added: Any,
) -> None:
    """Attention, activation and second product of rows that have entered, added to `hidden`.

    The inputs of the second product are gathered in `joined` [.., d_model + d_ff].
    """
    heads, d_model = storage.shape[0] // 2, hidden.shape[1]
    attend(fused, storage, tables, slots, positions, lanes, vectors, joined, 0, heads)
    for row in range(hidden.shape[0]):
        entering, activated = fused[row, 3 * d_model :], joined[row, d_model:]
        for i in range(activated.shape[0]):
            activated[i] = gelu(entering[i])
    multiply(joined, 0, hidden.shape[0], weight, (0, weight.shape[0]), bias, added)
    for row in range(hidden.shape[0]):
        for i in range(hidden.shape[1]):
            hidden[row, i] += added[row, i]


@cached_njit(error_model="numpy")
def compute_logits(
    hidden: Any,
    norm_weight: Any,
    norm_bias: Any,
    epsilon: float,
    weight: Any,
    bias: Any,
    normed: Any,
    out: Any,
) -> None:
    """The last norm and the head: `out` is [rows, panels * PANEL]."""
    for begin in range(0, hidden.shape[0], TILE):
        end = min(begin + TILE, hidden.shape[0])
        layer_norm(hidden[begin:end], norm_weight, norm_bias, epsilon, normed)
        multiply(normed, 0, end - begin, weight, (0, weight.shape[0]), bias, out[begin:end])
