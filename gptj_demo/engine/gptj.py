"""GPT-J's forward pass over the KV cache: two large products a layer.

Attention and MLP of a GPT-J block read the same normalised input and their outputs are added, so
the query, key, value and `fc_in` projections are one matrix product and `out_proj` and `fc_out`
another. The reference is transformers' `GPTJForCausalLM`, from which the weights are taken layer by
layer: each layer's own modules are released once it is fused, so there are never two copies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from transformers import GPTJForCausalLM
from transformers.activations import ACT2FN

from gptj_demo.engine.int8 import Int8Linear, Int8Pair
from gptj_demo.engine.kv_cache import KVCache
from gptj_demo.engine.machine import return_freed_memory

if TYPE_CHECKING:
    from gptj_demo.engine.compiled import CompiledModel
    from gptj_demo.engine.int8_cpu import Int8Model

# oneDNN's products over packed weights give a row the same bits whatever the other rows are, and
# however many threads there are, from two rows on
_LEAST_ROWS = 2

SMALL_MODEL = 100_000_000
"""Parameters, below which a step on the CPU is too short to be shared among threads."""

_TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")

logger = logging.getLogger(__name__)

Product = Callable[[torch.Tensor], torch.Tensor]
Attention = Callable[[int, torch.Tensor], torch.Tensor]


class Linear:
    """`x @ weight.T + bias`, with `weight` [out, in]; in fp32 on the CPU by oneDNN.

    oneDNN reorders the weight once, which makes products of few rows up to twice as fast as
    `F.linear`'s, and reproducible.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._bias = bias
        self._is_packed = is_reproducible(weight)
        self._weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight, 16) if self._is_packed else weight
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._is_packed:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self._weight, self._bias, "none", [], ""
            )
            return product
        return F.linear(x, self._weight, self._bias)


def is_reproducible(weight: torch.Tensor) -> bool:
    """Whether products with this weight can be the same in any company: fp32, on the CPU."""
    on_cpu = weight.dtype == torch.float32 and weight.device.type == "cpu"
    return on_cpu and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


class LayerWeights(NamedTuple):
    """A layer's norm, and its two products, `x @ weight.T + bias`; weights are [out, in]."""

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    weight_in: torch.Tensor
    bias_in: torch.Tensor
    weight_out: torch.Tensor
    bias_out: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layer:
    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    project_in: Product  # [tokens, d_model] -> [tokens, 3 * d_model + d_ff]: q, k, v, fc_in
    project_out: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # attention, MLP -> d_model


@dataclass(frozen=True, slots=True)
class DecodeRun:
    """Neighbouring slots that decode together: a run of rows of the batch.

    `mask` [rows, 1, 1, length] is added to the scores: -inf beyond each row's own length.
    """

    first_slot: int
    rows: int
    length: int
    mask: torch.Tensor


class GPTJ:
    """A GPT-J model ready to decode. Takes `model`'s weights over and leaves it empty.

    A small one is compiled for the CPU, unless `may_compile` is False; what is made of `layers`
    needs one that is not.
    """

    @torch.inference_mode()
    def __init__(self, model: GPTJForCausalLM, *, may_compile: bool = True) -> None:
        config = model.config
        self.layers_count = config.n_layer
        self.d_model = config.n_embd
        self.heads = config.n_head
        self.head_dim = config.n_embd // config.n_head
        self.rotary_dim = config.rotary_dim or self.head_dim
        self.context_length = config.n_positions
        self.padded_vocabulary = config.vocab_size
        self.epsilon = config.layer_norm_epsilon
        self.dtype = model.lm_head.weight.dtype
        self.device = model.lm_head.weight.device
        blocks: Any = model.transformer.h
        is_int8_on_cpu = (
            blocks[0].mlp.fc_in.weight.dtype == torch.int8 and self.device.type == "cpu"
        )
        if is_int8_on_cpu:
            self.dtype = torch.bfloat16  # the 16 bits that are fast on a CPU
        d_ff = config.n_inner or 4 * config.n_embd
        if config.activation_function in _TANH_GELU:
            self.activation: Product = lambda x: F.gelu(x, approximate="tanh")
        else:
            self.activation = ACT2FN[config.activation_function]
        # in fp32 the pairs of the fused output can be turned in place, as complex numbers, where
        # every one of them begins at an even place
        fused_width = 3 * config.n_embd + d_ff
        self._turn_in_place = (
            self.dtype == torch.float32 and self.head_dim % 2 == 0 and fused_width % 2 == 0
        )
        self.rotation = _rotation_table(self.context_length, self.rotary_dim).to(self.device)
        self._least_rows = _LEAST_ROWS if is_reproducible(model.lm_head.weight) else 1

        self._compiled: CompiledModel | Int8Model | None = None
        if may_compile and config.activation_function in _TANH_GELU:
            compile = self._compile_int8 if is_int8_on_cpu else self._compile
            self._compiled = compile(model, d_ff)
        self.layers: list[Layer] = []
        if self._compiled is not None:
            return
        if is_int8_on_cpu:
            for parameter in model.parameters():
                if parameter.dtype == torch.float16:
                    parameter.data = parameter.data.to(self.dtype)
        transformer = model.transformer
        self.embedding = transformer.wte.weight.data
        self.layers += [_fuse_layer(block) for block in _take_blocks(model)]
        self.norm_weight, self.norm_bias = transformer.ln_f.weight.data, transformer.ln_f.bias.data
        self.head = Linear(model.lm_head.weight.data, model.lm_head.bias.data)

    @property
    def is_compiled(self) -> bool:
        """Whether the forward pass is compiled, and its results the same to the bit."""
        return self._compiled is not None

    def _compile(self, model: GPTJForCausalLM, d_ff: int) -> CompiledModel | None:
        """Compiled code for a small model in fp32 on the CPU.

        Large models are better off with torch's own, which uses all cores.
        """
        parameters = self.layers_count * self.d_model * (4 * self.d_model + 2 * d_ff)
        is_fp32_on_cpu = self.dtype == torch.float32 and self.device.type == "cpu"
        if not is_fp32_on_cpu or parameters >= SMALL_MODEL:
            return None
        try:
            from gptj_demo.engine.compiled import CompiledModel, check_processor

            check_processor()
        except (ImportError, RuntimeError) as error:  # no numba for this platform; nowhere to cache
            logger.warning("a small model will be slower than it could be: %s", error)
            return None
        transformer, head = model.transformer, model.lm_head
        return CompiledModel(
            map(_fuse_weights, _take_blocks(model)),
            transformer.wte.weight.data,
            (transformer.ln_f.weight.data, transformer.ln_f.bias.data),
            (head.weight.data, head.bias.data),
            self.rotation,
            self.heads,
            self.epsilon,
        )

    def _compile_int8(self, model: GPTJForCausalLM, d_ff: int) -> Int8Model | None:
        """Compiled code for a model in 8 bits on the CPU."""
        try:
            from gptj_demo.engine.int8_cpu import Int8Layer, Int8Model
        except (ImportError, RuntimeError) as error:  # no numba for this platform; nowhere to cache
            logger.warning("8 bits will be slower than they could be: %s", error)
            return None
        transformer, head = model.transformer, model.lm_head
        model.lm_head = torch.nn.Identity()
        return Int8Model(
            (Int8Layer(*_fuse_int8(block)) for block in _take_blocks(model)),
            transformer.wte.weight.data,
            (transformer.ln_f.weight.data, transformer.ln_f.bias.data),
            (head.weight.data, head.bias.data),
            self.rotation,
            self.epsilon,
        )

    def make_cache(self, max_streams: int) -> KVCache:
        """A KV cache of the model's own shape, in its dtype, on its device."""
        return KVCache(
            layers=self.layers_count,
            max_streams=max_streams,
            context_length=self.context_length,
            heads=self.heads,
            head_dim=self.head_dim,
            dtype=self.dtype,
            device=self.device,
        )

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[rows, d_model] -> fp32 logits [rows, padded_vocabulary]."""
        if self._compiled is not None:
            return self._compiled.logits(hidden)
        rows = hidden.shape[0]
        normed = F.layer_norm(
            self._pad(hidden), (self.d_model,), self.norm_weight, self.norm_bias, self.epsilon
        )
        return self.head(normed)[:rows].float()

    def _pad(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of zeros below, where there are too few for a product to be reproducible."""
        missing = self._least_rows - rows.shape[0]
        return rows if missing <= 0 else F.pad(rows, (0,) * (2 * rows.dim() - 1) + (missing,))

    def prefill(
        self, cache: KVCache, slot: int, token_ids: torch.Tensor, start: int
    ) -> torch.Tensor:
        """Read `token_ids` [length] into `slot` from position `start` on.

        What stands before `start` must be in the slot already. Returns the hidden states
        [length, d_model].
        """
        length = token_ids.shape[0]
        end = start + length
        positions = torch.arange(start, end, device=self.device)
        if self._compiled is not None:
            slots = torch.full_like(positions, slot)
            return self._compiled.forward(cache.storage, token_ids, slots, positions)
        mask = None
        if start > 0 and length > 1:
            mask = self._mask(positions + 1, end)[:, 0, 0]

        def attend(layer: int, heads: torch.Tensor) -> torch.Tensor:
            cache.write_range(layer, slot, start, heads[:, self.heads :])
            keys, values = cache.read(layer, slot, 1, end)
            query = heads[:, : self.heads].transpose(0, 1)[None]  # [1, heads, length, head_dim]
            mixed = F.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, is_causal=start == 0 and length > 1
            )
            return mixed[0].transpose(0, 1).flatten(1)  # [length, d_model]

        return self._forward(token_ids, positions, attend)

    def _mask(self, lengths: torch.Tensor, longest: int) -> torch.Tensor:
        """What is added to the scores: [rows, 1, 1, longest], -inf beyond each row's length."""
        beyond = torch.arange(longest, device=self.device) >= lengths[:, None]
        mask = torch.zeros(beyond.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(beyond, -torch.inf)[:, None, None]

    def decode(
        self,
        cache: KVCache,
        token_ids: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        runs: list[DecodeRun],
    ) -> torch.Tensor:
        """One token for each row: `token_ids`, `positions`, `slots` are [rows], ordered by slot.

        `runs` cover the rows in order (`decode_runs` makes them). Returns hidden states
        [rows, d_model].
        """
        if self._compiled is not None:
            return self._compiled.forward(cache.storage, token_ids, slots, positions)

        def attend(layer: int, heads: torch.Tensor) -> torch.Tensor:
            cache.write(layer, slots, positions, heads[:, self.heads :])
            query = heads[:, : self.heads, None]  # [rows, heads, 1, head_dim]
            parts, row = [], 0
            for run in runs:
                keys, values = cache.read(layer, run.first_slot, run.rows, run.length)
                parts.append(
                    F.scaled_dot_product_attention(
                        query[row : row + run.rows], keys, values, attn_mask=run.mask
                    )
                )
                row += run.rows
            mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
            return mixed.view(-1, self.d_model)

        return self._forward(token_ids, positions, attend)

    def decode_runs(self, slots: list[int], lengths: list[int]) -> list[DecodeRun]:
        """Group rows, ordered by slot, into runs of neighbouring slots.

        `lengths` counts the positions each row attends to, its new token included. None are
        needed where rows are attended to one by one.
        """
        runs: list[DecodeRun] = []
        if self._compiled is not None:
            return runs
        begin = 0
        for end in range(1, len(slots) + 1):
            if end < len(slots) and slots[end] == slots[end - 1] + 1:
                continue
            part = lengths[begin:end]
            longest = max(part)
            mask = self._mask(torch.tensor(part, device=self.device), longest)
            runs.append(DecodeRun(slots[begin], end - begin, longest, mask))
            begin = end
        return runs

    def _forward(
        self, token_ids: torch.Tensor, positions: torch.Tensor, attend: Attention
    ) -> torch.Tensor:
        """Hidden states [tokens, d_model] before the last norm.

        `attend` gets the layer's number and its heads [tokens, 3 * heads, head_dim], queries, keys
        and values in turn and rotated; it stores the latter two and gives back [tokens, d_model].
        """
        tokens, d_model = token_ids.shape[0], self.d_model
        rotation = self.rotation[positions][:, None]  # [tokens, 1, rotary_dim / 2]
        hidden = F.embedding(token_ids, self.embedding)  # [tokens, d_model]
        for number, layer in enumerate(self.layers):
            normed = F.layer_norm(
                hidden, (d_model,), layer.norm_weight, layer.norm_bias, self.epsilon
            )
            fused = layer.project_in(normed)  # [tokens, 3 * d_model + d_ff]
            heads = fused[:, : 3 * d_model].view(tokens, 3 * self.heads, self.head_dim)
            self._turn(heads[:, : 2 * self.heads, : self.rotary_dim], rotation)
            mixed = attend(number, heads)
            hidden += layer.project_out(mixed, self.activation(fused[:, 3 * d_model :]))
        return hidden

    def _turn(self, x: torch.Tensor, rotation: torch.Tensor) -> None:
        """Rotary position embedding (Su et al. 2021), in place: x [tokens, heads, rotary_dim].

        GPT-J pairs dimension 2i with 2i+1, which is how complex numbers lie in memory.
        """
        if self._turn_in_place:
            torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(rotation)
        else:
            pairs = torch.view_as_complex(x.float().contiguous().view(*x.shape[:-1], -1, 2))
            x.copy_(torch.view_as_real(pairs * rotation).flatten(-2))


def _rotation_table(context_length: int, rotary_dim: int) -> torch.Tensor:
    """cos + i sin for each position and pair: complex64 [context_length, rotary_dim / 2]."""
    pairs = torch.arange(0, rotary_dim, 2, dtype=torch.int64) / rotary_dim
    angles = torch.arange(context_length, dtype=torch.int64).float()[:, None] * (1.0 / 10000**pairs)
    return torch.complex(angles.cos(), angles.sin())


def _fuse_layer(block: Any) -> Layer:  # a GPTJBlock, whose linears may be bitsandbytes'
    if block.mlp.fc_in.weight.dtype == torch.int8:
        return Layer(*_fuse_int8(block))
    weights = _fuse_weights(block)
    project_out = Linear(weights.weight_out, weights.bias_out)
    return Layer(
        weights.norm_weight,
        weights.norm_bias,
        Linear(weights.weight_in, weights.bias_in),
        lambda mixed, activated: project_out(torch.cat((mixed, activated), dim=1)),
    )


def _fuse_int8(block: Any) -> tuple[torch.Tensor, torch.Tensor, Int8Linear, Int8Pair]:
    attention, mlp = block.attn, block.mlp
    readers = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.fc_in)
    return (
        block.ln_1.weight.data,
        block.ln_1.bias.data,
        Int8Linear.from_bitsandbytes(*readers),
        Int8Pair(
            Int8Linear.from_bitsandbytes(attention.out_proj),
            Int8Linear.from_bitsandbytes(mlp.fc_out),
        ),
    )


def _fuse_weights(block: Any) -> LayerWeights:
    attention, mlp = block.attn, block.mlp
    readers = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.fc_in)
    no_bias = mlp.fc_in.bias.new_zeros(3 * attention.embed_dim)
    return LayerWeights(
        block.ln_1.weight.data,
        block.ln_1.bias.data,
        torch.cat([reader.weight.data for reader in readers]),
        torch.cat((no_bias, mlp.fc_in.bias.data)),
        torch.cat((attention.out_proj.weight.data, mlp.fc_out.weight.data), dim=1),
        mlp.fc_out.bias.data.clone(),
    )


def _take_blocks(model: GPTJForCausalLM) -> Iterator[Any]:
    """The layers of a model one by one; each is released when the next one is asked for."""
    blocks = model.transformer.h
    for index in range(len(blocks)):
        block, blocks[index] = blocks[index], torch.nn.Identity()
        yield block
        del block
        return_freed_memory()
