"""The forward pass of a small fp32 model on a processor: one compiled call for all layers.

For a small model the cost of a step is dispatch: about thirty operations a layer on a few rows.
Here all layers are one function, compiled by numba: a step of the sample model takes 0.3 ms instead
of the 2.9 ms of transformers (`benchmarks/decode.py`, two cores of an AMD EPYC).

In a decode step, each thread computes all rows of some slots. In a prompt, the threads share the
tokens of each layer and wait for each other after it: a token needs the earlier ones' keys and
values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.model.base import Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.cpu.layers import (
    TILE,
    compute_logits,
    enter_layer,
    leave_layer,
    run_layers,
)
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.cpu.vectors import HAS_HALF, LANES, PANEL
from gptj_demo.engine.model.fusing import LayerWeights, take_ends, take_layers
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.rotary import rotation_table

_PRODUCTS = (2, 4)
"""Places of the products' weights in `LayerWeights`."""

Workspace = tuple[np.ndarray, ...]
"""Arrays for the intermediate results of one thread."""

# A decode step uses several threads from this much work on, counted in KV positions that are read.
# The matmuls of one row cost about as much as 256 positions.
_ROW_IN_POSITIONS, _WORK_FOR_THREADS = 256, 1800
_ROWS_FOR_THREADS = 8  # the head uses several threads from so many rows on
_TOKENS_FOR_THREADS = 20  # a prompt uses several threads from so many tokens on
_BLOCK = 8  # tokens of a prompt that are multiplied together
_LEAST_ROWS_A_THREAD = 2


class CompiledModel(ForwardModel):
    """A small GPT-J in fp32. Takes `model`'s weights over and leaves it empty."""

    @torch.inference_mode()
    def __init__(self, model: GPTJForCausalLM) -> None:
        shape = Shape.of(model.config)
        super().__init__(shape, torch.float32, model.lm_head.weight.device)
        embedding, norm_weight, norm_bias, *head = take_ends(model)
        rotation = rotation_table(shape.context_length, shape.rotary_dim)
        packed = [_pack_layer(layer) for layer in take_layers(model)]
        stacked = [np.stack(arrays) for arrays in zip(*packed, strict=True)]
        for product in _PRODUCTS:
            stacked[product] = _narrow(stacked[product])
        self._layers = tuple(stacked)
        self._embedding = embedding.numpy()
        self._norm = norm_weight.numpy(), norm_bias.numpy()
        head_weight, head_bias = _pack(head[0], head[1])
        self._head = _narrow(head_weight), head_bias
        self._rotation = rotation.real.contiguous().numpy(), rotation.imag.contiguous().numpy()
        width = self._layers[4].shape[2]
        lanes = math.gcd(shape.head_dim, LANES)
        self._head_shape = (0,) * lanes, (0,) * (shape.head_dim // lanes)
        widths = shape.d_model, self._layers[3].shape[1], width, self._layers[5].shape[1]
        self._threads = Threads(available_cores())
        self._workspaces: list[Workspace] = [
            tuple(np.zeros((TILE, width), dtype=np.float32) for width in widths)
            for _ in range(self._threads.count)
        ]

    @property
    def verifies(self) -> bool:
        return True

    @property
    def least_row_cost(self) -> float:
        # a small model is bound by arithmetic; under other load a pass of one row can seem slow
        return 0.6

    def narrow_cache(self) -> bool:
        self.dtype = torch.bfloat16
        return True

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        positions = np.array(rows.positions)
        work = int(positions.sum()) + _ROW_IN_POSITIONS * len(positions)
        tokens = np.array(rows.token_ids), np.array(rows.slots), positions
        return self._run_layers(cache, tokens, len(positions), is_shared=work >= _WORK_FOR_THREADS)

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        token_ids = np.array(chunk.token_ids)
        positions = np.arange(chunk.start, chunk.start + len(token_ids))
        slots = np.full_like(positions, chunk.slot)
        tokens = token_ids, slots, positions
        if self._threads.count > 1 and len(token_ids) >= _TOKENS_FOR_THREADS:
            hidden = self._run_by_layer(cache, tokens, chunk.wanted)
        else:
            hidden = self._run_layers(cache, tokens, chunk.wanted, is_shared=False)
        return hidden[len(token_ids) - chunk.wanted :]

    def _run_by_layer(
        self, cache: KVCache, tokens: tuple[np.ndarray, ...], wanted: int
    ) -> torch.Tensor:
        """Like `_run_layers`, for tokens of one slot that the threads share.

        The threads wait for each other once a layer: attention needs the keys and values of all
        earlier tokens.
        """
        token_ids, slots, positions = tokens
        hidden = self._embedding[token_ids]
        storage, tables = _pages(cache)
        fused = np.empty((len(hidden), self._workspaces[0][1].shape[1]), np.float32)
        norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = self._layers
        layers = len(weight_in)

        def run(layer: int, begin: int, end: int, workspace: Workspace) -> None:
            normed, _, joined, added = workspace
            first_wanted = min(max(len(hidden) - wanted, begin), end)
            if layer > 0:
                leaving = slice(first_wanted if layer == layers else begin, end)
                leave_layer(
                    hidden[leaving],
                    slots[leaving],
                    positions[leaving],
                    weight_out[layer - 1],
                    bias_out[layer - 1],
                    storage[layer - 1],
                    tables,
                    *self._head_shape,
                    fused[leaving],
                    joined,
                    added,
                )
            if layer < layers:
                enter_layer(
                    hidden[begin:end],
                    slots[begin:end],
                    positions[begin:end],
                    norm_weight[layer],
                    norm_bias[layer],
                    weight_in[layer],
                    bias_in[layer],
                    storage[layer],
                    tables,
                    *self._rotation,
                    self.shape.epsilon,
                    first_wanted - begin if layer == layers - 1 else 0,
                    normed,
                    fused[begin:end],
                )

        blocks = -(-len(hidden) // _BLOCK)
        parts = self._threads.count * -(-len(hidden) // (self._threads.count * TILE))
        part = _BLOCK * -(-blocks // parts)
        for layer in range(layers + 1):
            self._share(functools.partial(run, layer), len(hidden), part)
        return torch.from_numpy(hidden)

    def _run_layers(
        self, cache: KVCache, tokens: tuple[np.ndarray, ...], wanted: int, *, is_shared: bool
    ) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm, of (token ids, slots, positions).

        Only the last `wanted` ones are computed to the end. Tokens of one slot are neighbours, in
        the order of their positions.
        """
        hidden = np.empty((len(tokens[0]), self.shape.d_model), dtype=np.float32)
        pages = _pages(cache)
        # a token attends to those before it, so one thread takes all tokens of a slot
        changes = np.flatnonzero(np.diff(tokens[1])).tolist() if is_shared else []
        bounds = [0, *(before + 1 for before in changes), len(hidden)]

        def run(first_slot: int, end_slot: int, workspace: Workspace) -> None:
            begin, end = bounds[first_slot], bounds[end_slot]
            run_layers(
                *(array[begin:end] for array in tokens),
                self._embedding,
                *self._layers,
                *pages,
                *self._rotation,
                self.shape.epsilon,
                *self._head_shape,
                max(len(hidden) - wanted - begin, 0),
                workspace,
                hidden[begin:end],
            )

        self._share(run, len(bounds) - 1, self._each(len(bounds) - 1, is_shared))
        return torch.from_numpy(hidden)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.numpy()
        out = np.empty((len(rows), len(self._head[1])), dtype=np.float32)

        def run(begin: int, end: int, workspace: Workspace) -> None:
            compute_logits(
                rows[begin:end],
                *self._norm,
                self.shape.epsilon,
                *self._head,
                workspace[0],
                out[begin:end],
            )

        self._share(run, len(rows), self._each(len(rows), len(rows) >= _ROWS_FOR_THREADS))
        return torch.from_numpy(out)[:, : self.shape.padded_vocabulary]

    def _each(self, rows: int, is_shared: bool) -> int:
        """How many rows, or slots, a thread takes."""
        each = -(-rows // self._threads.count) if is_shared else rows
        return max(each, _LEAST_ROWS_A_THREAD)

    def _share(self, run: Callable[[int, int, Workspace], None], rows: int, each: int) -> None:
        """Run all rows, or slots, on the threads, which take `each` at a time."""

        def run_part(begin: int, end: int) -> None:
            workspace = self._workspaces.pop()  # there is one for each thread
            try:
                run(begin, end, workspace)
            finally:
                self._workspaces.append(workspace)

        self._threads.run(run_part, rows, each)


def _pages(cache: KVCache) -> tuple[np.ndarray, np.ndarray]:
    """A cache's storage, bfloat16 as its bits, and its tables."""
    is_narrow = cache.storage.dtype == torch.bfloat16
    stored = cache.storage.view(torch.uint16) if is_narrow else cache.storage
    return stored.numpy(), cache.tables.numpy()


def _pack(weight: torch.Tensor, bias: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """A product's weight [out, in] and bias as `multiply_panel` reads them, filled up with 0."""
    outputs, inputs = weight.shape
    panels = -(-outputs // PANEL)
    rows = torch.zeros(panels * PANEL, inputs + 1)
    rows[:outputs, :inputs] = weight
    rows[:outputs, inputs] = bias
    packed = rows[:, :inputs].reshape(panels, PANEL, inputs).transpose(1, 2).contiguous()
    return packed.numpy(), rows[:, inputs].contiguous().numpy()


def _narrow(panels: np.ndarray) -> np.ndarray:
    """The bits of `panels` in float16 where that is exact, as it is for weights stored in float16.

    A step of one row is bound by reading the weights from the cache or memory.
    """
    if not HAS_HALF:
        return panels
    wide = torch.from_numpy(panels)
    half = wide.half()
    return half.view(torch.int16).numpy().view(np.uint16) if half.float().equal(wide) else panels


def _pack_layer(layer: LayerWeights) -> tuple[np.ndarray, ...]:
    norm_weight, norm_bias, *products = layer
    return norm_weight.numpy(), norm_bias.numpy(), *_pack(*products[:2]), *_pack(*products[2:])
