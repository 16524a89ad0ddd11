"""How much memory a model needs: weights, activations, KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import GPTJConfig

from gptj_demo.pages import PAGE_TOKENS, page_count

USUAL_TOKENS = 220
"""Tokens of a usual text: a prompt of 100 and the 120 that the page generates by default."""


class Footprint(NamedTuple):
    """The properties of a model that determine the memory it needs."""

    config: GPTJConfig
    precision: str
    kv_dtype: str = "auto"
    """The type of keys and values: auto or bfloat16."""


def parameter_count(config: GPTJConfig) -> int:
    """Parameters of a GPT-J: embedding, layers, last norm, head with its bias."""
    return _quantized_parameter_count(config) + _other_parameter_count(config)


def _quantized_parameter_count(config: GPTJConfig) -> int:
    inner = config.n_inner or 4 * config.n_embd
    return config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * inner)


def _other_parameter_count(config: GPTJConfig) -> int:
    inner = config.n_inner or 4 * config.n_embd
    norms_and_biases = config.n_layer * (3 * config.n_embd + inner) + 2 * config.n_embd
    return norms_and_biases + config.vocab_size * (2 * config.n_embd + 1)


def weight_bytes(config: GPTJConfig, precision: str) -> int:
    """Bytes of the weights. In int8 the embedding, the head, norms and biases keep 16 bits."""
    if precision != "int8":
        return parameter_count(config) * (4 if precision == "float32" else 2)
    inner = config.n_inner or 4 * config.n_embd
    rows = config.n_layer * (5 * config.n_embd + inner)
    scales = 4 * rows
    return _quantized_parameter_count(config) + scales + 2 * _other_parameter_count(config)


def kv_bytes_per_token(config: GPTJConfig, precision: str, kv_dtype: str = "auto") -> int:
    """Bytes that one token's keys and values take in the cache, over all layers."""
    is_wide = precision == "float32" and kv_dtype == "auto"
    return 2 * config.n_layer * config.n_embd * (4 if is_wide else 2)


def working_bytes(config: GPTJConfig) -> int:
    """Bytes for activations: a prompt of the full context in float32, its attention scores for 512
    queries at a time, and one layer's weights in 16 bits, which fusing and dequantising need.
    Decode steps need less."""
    inner = config.n_inner or 4 * config.n_embd
    context = config.n_positions
    activations = 4 * context * (inner + 8 * config.n_embd)
    scores = 2 * 4 * config.n_head * min(512, context) * context
    layer = 2 * (4 * config.n_embd**2 + 2 * config.n_embd * inner)
    return activations + scores + layer


_LOGITS_BYTES = 4 * 4
"""Bytes an id: a graph's fp32 logits, before and after the bias; a step's copy, and its rows'."""
_SAMPLER_BYTES = 66
"""Bytes an id beside the logits. The live tensors of torch's sampler have 37 with top-p, 45 with
tfs, 49 with typical-p, and 65 with `MOST_MEMORY` and unused ids. Compiled code on a processor has
4, 45, 24 and 61."""


def stream_bytes(config: GPTJConfig) -> int:
    """Bytes of one stream's logits and of the sampler's copies of them."""
    return (_LOGITS_BYTES + _SAMPLER_BYTES) * config.vocab_size


def page_bytes(config: GPTJConfig, precision: str, kv_dtype: str = "auto") -> int:
    """Bytes of a page of the cache."""
    return PAGE_TOKENS * kv_bytes_per_token(config, precision, kv_dtype)


def memory_needed(
    config: GPTJConfig, precision: str, streams: int, tokens: int, kv_dtype: str = "auto"
) -> int:
    """Bytes for weights, activations and `streams` texts of `tokens` tokens each."""
    # one more page belongs to no slot: see `KVCache`
    cache = (1 + streams * page_count(tokens)) * page_bytes(config, precision, kv_dtype)
    fixed = weight_bytes(config, precision) + working_bytes(config)
    return fixed + streams * stream_bytes(config) + cache


def streams_that_fit(memory: int, tokens: int, *models: Footprint) -> int:
    """How many texts of `tokens` tokens of each model fit into `memory` bytes beside the
    weights."""
    fixed = _needed_of_all(models, 0, 0)
    return max(0, (memory - fixed) // (_needed_of_all(models, 1, tokens) - fixed))


def tokens_that_fit(memory: int, streams: int, *models: Footprint) -> int:
    """How many tokens of `streams` texts fit into `memory` bytes, in whole pages."""
    pages = (memory - _needed_of_all(models, streams, 0)) // sum(page_bytes(*m) for m in models)
    return max(0, pages) * PAGE_TOKENS


def _needed_of_all(models: Sequence[Footprint], streams: int, tokens: int) -> int:
    return sum(memory_needed(*model[:2], streams, tokens, model.kv_dtype) for model in models)
