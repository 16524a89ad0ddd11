"""The forward pass of a small fp32 model on a processor: compiled code for all layers.

For a small model the cost of a step is dispatch: about thirty operations a layer on a few rows.
Here all layers and the head are one function, compiled by numba.

Two threads work on up to TILE rows together: each computes some columns of every product. More rows
are divided by slot, and each thread computes all columns of its slots. The same is done while the
second core is busy with other work. A longer prompt is divided by token; the threads wait for each
other after each layer, because a token needs the keys and values of earlier tokens.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.machine import available_cores
from gptj_demo.engine.model.base import Batch, Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.cpu.layers import (
    TILE,
    compute_logits,
    enter_layer,
    leave_layer,
)
from gptj_demo.engine.model.cpu.passes import Weights
from gptj_demo.engine.model.cpu.rows import RowRunner, Tokens
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.cpu.vectors import HAS_HALF, LANES, PANEL
from gptj_demo.engine.model.fusing import LayerWeights, take_ends, take_layers
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.rotary import rotation_table

_PRODUCTS = (2, 4)
"""Places of the products' weights in `LayerWeights`."""

Workspace = tuple[np.ndarray, ...]
"""Arrays for the intermediate results of one thread."""

_ROWS_FOR_THREADS = 8  # the head uses several threads from so many rows on
_BLOCK = 8  # tokens of a prompt that are multiplied together


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
        lanes = math.gcd(shape.head_dim, LANES)
        self._embedding = embedding.numpy()
        head_weight, head_bias = _pack(head[0], head[1])
        self._weights = Weights(
            layers=tuple(stacked),
            ends=(norm_weight.numpy(), norm_bias.numpy(), _narrow(head_weight), head_bias),
            rotation=(rotation.real.contiguous().numpy(), rotation.imag.contiguous().numpy()),
            epsilon=shape.epsilon,
            head_shape=((0,) * lanes, (0,) * (shape.head_dim // lanes)),
        )
        self._threads = Threads(available_cores())
        self._rows: tuple[KVCache, RowRunner] | None = None
        self._workspaces: list[Workspace] = [
            tuple(np.zeros((TILE, width), dtype=np.float32) for width in self._weights.widths)
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

    def forward(self, cache: KVCache, batch: Batch) -> torch.Tensor:
        rows, chunks = batch.rows, batch.chunks
        if rows is not None and not chunks:
            return self._logits_of(cache, _tokens_of(rows), len(rows.positions))
        if rows is None and len(chunks) == 1 and self._is_short(chunks[0]):
            return self._logits_of(cache, _tokens_in(chunks[0]), chunks[0].wanted)
        return super().forward(cache, batch)

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        return self._hidden_of(cache, _tokens_of(rows), len(rows.positions))

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        if self._is_short(chunk):
            return self._hidden_of(cache, _tokens_in(chunk), chunk.wanted)
        hidden = self._run_by_layer(cache, _tokens_in(chunk), chunk.wanted)
        return hidden[len(hidden) - chunk.wanted :]

    def release(self) -> None:
        self._rows = None

    def _is_short(self, chunk: Chunk) -> bool:
        return self._threads.count == 1 or len(chunk.token_ids) <= TILE

    def _logits_of(self, cache: KVCache, tokens: Tokens, wanted: int) -> torch.Tensor:
        logits = self._runner(cache).run(tokens, wanted, wants_logits=True)
        return torch.from_numpy(logits)[:, : self.shape.padded_vocabulary]

    def _hidden_of(self, cache: KVCache, tokens: Tokens, wanted: int) -> torch.Tensor:
        return torch.from_numpy(self._runner(cache).run(tokens, wanted, wants_logits=False))

    def _runner(self, cache: KVCache) -> RowRunner:
        if self._rows is None or self._rows[0] is not cache:
            runner = RowRunner(self._embedding, self._weights, _pages(cache), self._threads)
            self._rows = cache, runner
        return self._rows[1]

    def _run_by_layer(self, cache: KVCache, tokens: Tokens, wanted: int) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm, of a prompt that the threads share.

        Only the last `wanted` ones are computed to the end. The threads wait for each other once a
        layer: attention needs the keys and values of all earlier tokens.
        """
        self._runner(cache).free_threads()
        token_ids, slots, positions = tokens
        hidden = self._embedding[token_ids]
        storage, tables = _pages(cache)
        fused = np.empty((len(hidden), self._workspaces[0][1].shape[1]), np.float32)
        norm_weight, norm_bias, weight_in, bias_in, weight_out, bias_out = self._weights.layers
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
                    *self._weights.head_shape,
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
                    *self._weights.rotation,
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

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.numpy()
        norm_weight, norm_bias, head_weight, head_bias = self._weights.ends
        out = np.empty((len(rows), len(head_bias)), dtype=np.float32)

        def run(begin: int, end: int, workspace: Workspace) -> None:
            compute_logits(
                rows[begin:end],
                norm_weight,
                norm_bias,
                self.shape.epsilon,
                head_weight,
                head_bias,
                workspace[0],
                out[begin:end],
            )

        each = -(-len(rows) // self._threads.count)
        self._share(run, len(rows), each if len(rows) >= _ROWS_FOR_THREADS else len(rows))
        return torch.from_numpy(out)[:, : self.shape.padded_vocabulary]

    def _share(self, run: Callable[[int, int, Workspace], None], rows: int, each: int) -> None:
        """Run all rows on the threads, which take `each` at a time."""

        def run_part(begin: int, end: int) -> None:
            workspace = self._workspaces.pop()  # there is one for each thread
            try:
                run(begin, end, workspace)
            finally:
                self._workspaces.append(workspace)

        self._threads.run(run_part, rows, each)


def _tokens_of(rows: Rows) -> Tokens:
    return Tokens(np.array(rows.token_ids), np.array(rows.slots), np.array(rows.positions))


def _tokens_in(chunk: Chunk) -> Tokens:
    token_ids = np.array(chunk.token_ids)
    positions = np.arange(chunk.start, chunk.start + len(token_ids))
    return Tokens(token_ids, np.full_like(positions, chunk.slot), positions)


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
