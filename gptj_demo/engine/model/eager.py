"""The forward pass in plain torch, on any device; tests compare the other paths with it.

It is itself tested against transformers' `GPTJForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import GPTJForCausalLM
from transformers.activations import ACT2FN

from gptj_demo.engine.model.base import Chunk, ForwardModel, Rows, Shape
from gptj_demo.engine.model.fusing import is_int8, take_ends, take_int8_layers, take_layers
from gptj_demo.engine.model.int8 import Int8Linear
from gptj_demo.engine.model.kv_cache import MOST_GATHERED, KVCache
from gptj_demo.engine.model.linear import Linear
from gptj_demo.engine.model.rotary import rotate, rotate_aligned, rotation_table
from gptj_demo.engine.transfer import upload

TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""Names of the activation of GPT-J."""

Product = Callable[[torch.Tensor], torch.Tensor]
Attention = Callable[[int, torch.Tensor], torch.Tensor]
"""Takes a layer's number and the fused output [tokens, 3 * d_model + d_ff] of its first product:
queries, keys, values, `fc_in`. Rotates, stores keys and values, returns [tokens, d_model]."""


@dataclass(frozen=True, slots=True)
class Layer:
    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    project_in: Product  # [tokens, d_model] -> [tokens, 3 * d_model + d_ff]
    project_out: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # attention, MLP -> d_model


class EagerModel(ForwardModel):
    """A GPT-J in plain torch. Takes `model`'s weights over and leaves it empty.

    `linear` and `int8_linear` are the matmuls of the device. With int8 blocks, embedding, head
    and KV cache have the dtype `beside_int8`.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: GPTJForCausalLM,
        *,
        linear: type[Linear] = Linear,
        int8_linear: type[Int8Linear] = Int8Linear,
        beside_int8: torch.dtype = torch.bfloat16,
    ) -> None:
        self._linear, self._int8_linear = linear, int8_linear
        shape = Shape.of(model.config)
        weight = model.lm_head.weight
        dtype = beside_int8 if is_int8(model) else weight.dtype
        super().__init__(shape, dtype, weight.device)
        for parameter in model.parameters():
            if parameter.dtype == torch.float16 and dtype != torch.float16:
                parameter.data = parameter.data.to(dtype)
        if shape.activation in TANH_GELU:
            self.activation: Product = lambda x: F.gelu(x, approximate="tanh")
        else:
            self.activation = ACT2FN[shape.activation]
        is_aligned = shape.head_dim % 2 == 0 and (3 * shape.d_model + shape.d_ff) % 2 == 0
        self._rotate = rotate_aligned if is_aligned and dtype == torch.float32 else rotate
        table = rotation_table(shape.context_length, shape.rotary_dim)
        self.rotation = table.to(self.device)
        ends = take_ends(model)
        self.embedding = ends.embedding
        self.layers = list(self._take_layers(model))
        self.norm_weight, self.norm_bias = ends.norm_weight, ends.norm_bias
        self.head = linear(ends.head_weight, ends.head_bias)

    def _take_layers(self, model: GPTJForCausalLM) -> list[Layer]:
        if is_int8(model):
            return [Layer(*layer) for layer in take_int8_layers(model, self._int8_linear)]
        layers = []
        for weights in take_layers(model):
            project_out = self._linear(weights.weight_out, weights.bias_out)
            layers.append(
                Layer(
                    weights.norm_weight,
                    weights.norm_bias,
                    self._linear(weights.weight_in, weights.bias_in),
                    _joined(project_out),
                )
            )
        return layers

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        rows = hidden.shape[0]
        normed = F.layer_norm(
            self._pad(hidden),
            (self.shape.d_model,),
            self.norm_weight,
            self.norm_bias,
            self.shape.epsilon,
        )
        return self.head.widened(normed)[:rows]

    def _pad(self, rows: torch.Tensor) -> torch.Tensor:
        """Append rows of zeros if there are too few for a reproducible matmul."""
        missing = self._linear.least_rows - rows.shape[0]
        return rows if missing <= 0 else F.pad(rows, (0,) * (2 * rows.dim() - 1) + (missing,))

    def prefill(self, cache: KVCache, chunk: Chunk) -> torch.Tensor:
        heads, start, length = self.shape.heads, chunk.start, len(chunk.token_ids)
        end = start + length
        positions = torch.arange(start, end, device=self.device)
        slots = torch.full_like(positions, chunk.slot)
        mask = None
        if start > 0 and length > 1:
            mask = self._mask(positions + 1, end)[:, 0, 0]

        def attend(layer: int, three: torch.Tensor) -> torch.Tensor:
            cache.write(layer, slots, positions, three[:, heads:])
            keys, values = cache.read(layer, slots[:1], end)
            query = three[:, :heads].transpose(0, 1)[None]  # [1, heads, length, head_dim]
            mixed = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, is_causal=start == 0 and length > 1
            )
            return mixed[0].transpose(0, 1).flatten(1)  # [length, d_model]

        token_ids = upload(chunk.token_ids, torch.int64, self.device)
        hidden = self.run_layers(token_ids, self._rotating(positions, attend))
        return hidden[length - chunk.wanted :]

    def decode(self, cache: KVCache, rows: Rows) -> torch.Tensor:
        heads = self.shape.heads
        positions = upload(rows.positions, torch.int64, self.device)
        slots = upload(rows.slots, torch.int64, self.device)
        parts = []  # rows that attend together, up to the longest of them
        for part in _parts(rows.positions):
            longest = max(rows.positions[part]) + 1
            parts.append((part, longest, self._mask(positions[part] + 1, longest)))

        def attend(layer: int, three: torch.Tensor) -> torch.Tensor:
            cache.write(layer, slots, positions, three[:, heads:])
            query = three[:, :heads, None]  # [rows, heads, 1, head_dim]
            mixed = [
                F.scaled_dot_product_attention(
                    query[part], *cache.read(layer, slots[part], longest), attn_mask=mask
                )
                for part, longest, mask in parts
            ]
            return torch.cat(mixed).view(-1, self.shape.d_model)

        token_ids = rows.token_ids
        if not isinstance(token_ids, torch.Tensor):
            token_ids = upload(token_ids, torch.int64, self.device)
        return self.run_layers(token_ids, self._rotating(positions, attend))

    def run_layers(self, token_ids: torch.Tensor, attend: Attention) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm; `token_ids` is int64 [tokens]."""
        d_model = self.shape.d_model
        hidden = F.embedding(token_ids, self.embedding)  # [tokens, d_model]
        for number, layer in enumerate(self.layers):
            normed = F.layer_norm(
                hidden, (d_model,), layer.norm_weight, layer.norm_bias, self.shape.epsilon
            )
            fused = layer.project_in(normed)  # [tokens, 3 * d_model + d_ff]
            mixed = attend(number, fused)
            hidden += layer.project_out(mixed, self.activation(fused[:, 3 * d_model :]))
        return hidden

    def _rotating(
        self, positions: torch.Tensor, attend: Callable[[int, torch.Tensor], torch.Tensor]
    ) -> Attention:
        """`attend` over [tokens, 3 * heads, head_dim]: rotated queries and keys, then values."""
        shape = self.shape
        rotation = self.rotation[positions][:, None]  # [tokens, 1, rotary_dim / 2]

        def rotated(number: int, fused: torch.Tensor) -> torch.Tensor:
            three = fused[:, : 3 * shape.d_model].view(-1, 3 * shape.heads, shape.head_dim)
            self._rotate(three[:, : 2 * shape.heads, : shape.rotary_dim], rotation)
            return attend(number, three)

        return rotated

    def _mask(self, lengths: torch.Tensor, longest: int) -> torch.Tensor:
        """The attention mask [rows, 1, 1, longest]: -inf beyond each row's length."""
        beyond = torch.arange(longest, device=self.device) >= lengths[:, None]
        mask = torch.zeros(beyond.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(beyond, -torch.inf)[:, None, None]


def _parts(positions: Sequence[int]) -> list[slice]:
    """Slices of neighbouring rows whose keys and values, with padding, are gathered together."""
    parts, begin, longest = [], 0, 0
    for row, position in enumerate(positions):
        longest = max(longest, position + 1)
        if row > begin and (row + 1 - begin) * longest > MOST_GATHERED:
            parts.append(slice(begin, row))
            begin, longest = row, position + 1
    return [*parts, slice(begin, len(positions))]


def _joined(product: Product) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda mixed, activated: product(torch.cat((mixed, activated), dim=1))
