"""Takes the weights from transformers' GPT-J, layer by layer, as two products a layer.

Attention and MLP of a GPT-J block read the same normalised input and their outputs are added. So
the query, key, value and `fc_in` projections are one matrix product, and `out_proj` and `fc_out`
another. Each block is released once it is fused, so there are never two copies of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.machine import return_freed_memory
from gptj_demo.engine.model.int8 import Int8Linear, Int8Pair


class LayerWeights(NamedTuple):
    """A layer's norm, and its two products, `x @ weight.T + bias`; weights are [out, in]."""

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    weight_in: torch.Tensor
    bias_in: torch.Tensor
    weight_out: torch.Tensor
    bias_out: torch.Tensor


class Int8LayerWeights(NamedTuple):
    """The same in int8; the second product is a pair, because the scales of its parts differ."""

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    project_in: Int8Linear
    project_out: Int8Pair


class Ends(NamedTuple):
    """Embedding, last norm and head; the head's weight is [padded_vocabulary, d_model]."""

    embedding: torch.Tensor
    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    head_weight: torch.Tensor
    head_bias: torch.Tensor


Fused = TypeVar("Fused", LayerWeights, Int8LayerWeights)


def is_int8(model: GPTJForCausalLM) -> bool:
    """Whether the linear layers of the blocks are bitsandbytes' `Linear8bitLt`."""
    blocks: Any = model.transformer.h
    return bool(blocks[0].mlp.fc_in.weight.dtype == torch.int8)


def take_ends(model: GPTJForCausalLM) -> Ends:
    """Embedding, last norm and head."""
    transformer, head = model.transformer, model.lm_head
    return Ends(
        transformer.wte.weight.data,
        transformer.ln_f.weight.data,
        transformer.ln_f.bias.data,
        head.weight.data,
        head.bias.data,
    )


def take_layers(model: GPTJForCausalLM) -> Iterator[LayerWeights]:
    """The layers one by one, each fused."""
    return _each_fused(model, _fuse)


def take_int8_layers(
    model: GPTJForCausalLM, linear: type[Int8Linear] = Int8Linear
) -> Iterator[Int8LayerWeights]:
    """The layers of an int8 model one by one, their products as `linear`."""
    return _each_fused(model, partial(_fuse_int8, linear=linear))


def _each_fused(model: GPTJForCausalLM, fuse: Callable[[Any], Fused]) -> Iterator[Fused]:
    """The fused blocks one by one; each block's memory is returned before its layer is yielded."""
    blocks = model.transformer.h
    for index in range(len(blocks)):
        block, blocks[index] = blocks[index], torch.nn.Identity()
        fused = fuse(block)
        del block
        return_freed_memory()
        yield fused
        del fused  # the caller may have packed it


def _fuse(block: Any) -> LayerWeights:
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


def _fuse_int8(block: Any, linear: type[Int8Linear]) -> Int8LayerWeights:
    attention, mlp = block.attn, block.mlp
    readers = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.fc_in)
    return Int8LayerWeights(
        block.ln_1.weight.data,
        block.ln_1.bias.data,
        linear.from_bitsandbytes(*readers),
        linear.pair(
            linear.from_bitsandbytes(attention.out_proj), linear.from_bitsandbytes(mlp.fc_out)
        ),
    )
