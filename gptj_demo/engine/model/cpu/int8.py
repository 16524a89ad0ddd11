"""The forward pass of a model in 8 bits on a processor: compiled code for all rows of a step."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from transformers import GPTJForCausalLM

from gptj_demo.engine.model.base import Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.cpu.attention import attend
from gptj_demo.engine.model.cpu.elementwise import gelu, layer_norm, rotate_and_store
from gptj_demo.engine.model.cpu.int8_kernels import HAS_LONG_VECTORS
from gptj_demo.engine.model.cpu.int8_products import USES_TILES, Matrix, multiply_into
from gptj_demo.engine.model.cpu.threads import Threads
from gptj_demo.engine.model.cpu.vectors import LANES
from gptj_demo.engine.model.fusing import take_ends, take_int8_layers
from gptj_demo.engine.model.kv_cache import KVCache
from gptj_demo.engine.model.rotary import rotation_table
from gptj_demo.engine.numba_cache import cached_njit

logger = logging.getLogger(__name__)

_PART_HEADS = 2  # heads that a thread takes at a time


@cached_njit(error_model="numpy")
def _between(
    fused: Any,
    storage: Any,
    tables: Any,
    slots: Any,
    positions: Any,
    cosines: Any,
    sines: Any,
    lanes: Any,
    vectors: Any,
    mixed: Any,
    activated: Any,
    stored_only: int,
    begin: int,
    end: int,
) -> None:
    """The work between a layer's products for the heads `begin` to `end` and their MLP share.

    Arguments are as in `rotate_and_store` and `attend`. `activated` [rows, d_ff] takes the MLP's
    activations. For the first `stored_only` rows, only keys and values are stored.
    """
    heads, rows, d_ff = storage.shape[0] // 2, slots.shape[0], activated.shape[1]
    d_model = heads * storage.shape[3]
    for head in range(begin, end):
        rotate_and_store(fused, storage, tables, slots, positions, cosines, sines, head)
    attend(
        fused[stored_only:],
        storage,
        tables,
        slots[stored_only:],
        positions[stored_only:],
        lanes,
        vectors,
        mixed[stored_only:],
        begin,
        end,
    )
    left, right = begin * d_ff // heads, end * d_ff // heads
    for row in range(stored_only, rows):
        entering = fused[row, 3 * d_model + left : 3 * d_model + right]
        leaving = activated[row, left:right]
        for i in range(right - left):
            leaving[i] = gelu(entering[i])


class Norm(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray


class Int8CpuModel(ForwardModel):
    """A GPT-J in 8 bits; everything between its products is fp32, the KV cache bfloat16.

    The head keeps 16 bits, as two products of 8: the upper and the lower half of each weight.
    Takes `model`'s weights over and leaves it empty.
    """

    @torch.inference_mode()
    def __init__(self, model: GPTJForCausalLM) -> None:
        shape = Shape.of(model.config)
        super().__init__(shape, torch.bfloat16, model.lm_head.weight.device)
        self._embedding, norm_weight, norm_bias, head_weight, head_bias = take_ends(model)
        model.lm_head = torch.nn.Identity()
        self._layers = [
            (
                Norm(layer.norm_weight.float().numpy(), layer.norm_bias.float().numpy()),
                Matrix.of(layer.project_in),
                Matrix.of(layer.project_out.attention),
                Matrix.of(layer.project_out.mlp),
            )
            for layer in take_int8_layers(model)
        ]
        fused = self._layers[0][1].outputs
        self._widths = fused, fused - 3 * shape.d_model
        self._norm = Norm(norm_weight.float().numpy(), norm_bias.float().numpy())
        self._head = Matrix.in_halves(head_weight, head_bias)
        rotation = rotation_table(shape.context_length, shape.rotary_dim)
        self._cosines = rotation.real.contiguous().numpy()
        self._sines = rotation.imag.contiguous().numpy()
        lanes = math.gcd(shape.head_dim, LANES)
        self._head_shape = (0,) * lanes, (0,) * (shape.head_dim // lanes)
        self._threads = Threads(torch.get_num_threads())
        # Other streams wait for a step, so it is short; but reading the weights should be a small
        # part of its time. AMX's tiles multiply 128 rows in about the time of 32 by vectors.
        self.prefill_budget = 128 if USES_TILES else 64 if HAS_LONG_VECTORS else 32
        logger.info("8-bit products: %s", "AMX's tiles" if USES_TILES else "vectors")

    @property
    def verifies(self) -> bool:
        return True

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        tokens = torch.as_tensor(rows.token_ids), np.array(rows.slots), np.array(rows.positions)
        return self._run_layers(cache, *tokens, len(rows.positions))

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        positions = np.arange(chunk.start, chunk.start + len(chunk.token_ids))
        slots = np.full_like(positions, chunk.slot)
        token_ids = torch.tensor(chunk.token_ids)
        return self._run_layers(cache, token_ids, slots, positions, chunk.wanted)

    def _run_layers(
        self,
        cache: KVCache,
        token_ids: torch.Tensor,
        slots: np.ndarray,
        positions: np.ndarray,
        wanted: int,
    ) -> torch.Tensor:
        """fp32 hidden states [wanted, d_model] of the last tokens, before the last norm.

        Tokens of one slot are in the order of their positions. For the other tokens, the last layer
        computes only keys and values.
        """
        hidden = F.embedding(token_ids, self._embedding).float()
        rows = hidden.numpy()
        stored = cache.storage.view(torch.uint16).numpy()
        at = cache.tables.numpy(), slots, positions, self._cosines, self._sines, *self._head_shape
        heads = self.shape.heads
        mixed = np.empty_like(rows)
        fused = np.empty((len(rows), self._widths[0]), np.float32)
        activated = np.empty((len(rows), self._widths[1]), np.float32)
        keys_and_values = range(self.shape.d_model, 3 * self.shape.d_model)
        for number, (norm, first, attention, mlp) in enumerate(self._layers):
            unwanted = len(rows) - wanted if number == len(self._layers) - 1 else 0
            normed = self._normed(rows, norm)
            some, others = normed[:unwanted], normed[unwanted:]
            multiply_into(fused[:unwanted], self._threads, (some, first), outputs=keys_and_values)
            multiply_into(fused[unwanted:], self._threads, (others, first))
            to = mixed, activated, unwanted
            self._threads.run(_between, heads, _PART_HEADS, fused, stored[number], *at, *to)
            both = (mixed[unwanted:], attention), (activated[unwanted:], mlp)
            multiply_into(rows[unwanted:], self._threads, *both, is_added=True)
        return hidden[len(rows) - wanted :]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        halves = np.empty((len(hidden), self._head.outputs), np.float32)
        normed = self._normed(hidden.numpy(), self._norm)
        multiply_into(halves, self._threads, (normed, self._head))
        upper, lower = torch.from_numpy(halves).chunk(2, dim=1)
        return (upper + lower)[:, : self.shape.padded_vocabulary]

    def _normed(self, rows: np.ndarray, norm: Norm) -> np.ndarray:
        normed = np.empty_like(rows)
        layer_norm(rows, *norm, self.shape.epsilon, normed)
        return normed
