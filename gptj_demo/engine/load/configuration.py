"""Checks the values of a checkpoint's config.json, once, before anything else uses them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from transformers import GPTJConfig
from transformers.activations import ACT2FN

from gptj_demo.engine.load.errors import shown
from gptj_demo.engine.load.folder import wrong_value

MOST = 1_000_000
"""The largest size that is accepted; the plan decides whether a model of these sizes fits."""

SIZES = {"vocab_size": 1, "n_positions": 8, "n_embd": 1, "n_layer": 1, "n_head": 1, "n_inner": 1}
"""The least value of each size. A shorter context has no room for the warm-up request."""

SPECIAL_IDS = ("bos_token_id", "eos_token_id")

_WITH_WEIGHTS = ("prelu", "xielu")  # their parameters are in no GPT-J
ACTIVATIONS = tuple(name for name in ACT2FN if name not in _WITH_WEIGHTS)

_TAKEN = (
    *SIZES,
    "rotary_dim",
    "activation_function",
    "layer_norm_epsilon",
    "tie_word_embeddings",
    *SPECIAL_IDS,
)


def read_configuration(
    model: str, values: Mapping[str, Any], *, heads_divisible_by: int = 1
) -> GPTJConfig:
    """The configuration with the fields that the forward pass and the tokenizer use, all checked.

    Other fields are left out. Raises `Refusal`.
    """
    given = {name: values[name] for name in _TAKEN if name in values}
    for other_name, name in GPTJConfig.attribute_map.items():
        if other_name in values:
            given[name] = values[other_name]
    defaults = {name: getattr(GPTJConfig, name) for name in _TAKEN}
    fields = defaults | given
    problem = (
        _wrong_size(fields)
        or _wrong_shape(fields, heads_divisible_by)
        or _wrong_function(fields)
        or _wrong_ids(fields)
    )
    if problem is not None:
        raise wrong_value(model, "config.json", problem)
    beginnings = known_ids(fields["bos_token_id"], fields["vocab_size"])
    fields["bos_token_id"] = beginnings[0] if beginnings else None
    fields["eos_token_id"] = known_ids(fields["eos_token_id"], fields["vocab_size"]) or None
    fields["layer_norm_epsilon"] = float(fields["layer_norm_epsilon"])
    if fields["rotary_dim"] is None:  # the whole head, as the first versions of transformers did
        fields["rotary_dim"] = fields["n_embd"] // fields["n_head"]
    return GPTJConfig(**fields)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def wrong_ids(name: str, value: object) -> str | None:
    """Why a field does not name tokens, by an id, a list of ids or null; None if it does."""
    if value is None or is_whole(value) or (isinstance(value, list) and all(map(is_whole, value))):
        return None
    return f"{name} is {shown(value)}, and must be a token id, a list of ids, or null"


def known_ids(value: Any, vocab_size: int) -> list[int] | None:
    """The ids among `value` (an id, a list or None) that the model has, None if it has none.

    transformers ignores the others too: ids of another vocabulary, and -1 for no token.
    """
    ids = value if isinstance(value, list) else [value]
    return [i for i in ids if is_whole(i) and 0 <= i < vocab_size] or None


def _wrong_size(fields: Mapping[str, Any]) -> str | None:
    for name, least in SIZES.items():
        value = fields[name]
        if value is None and name == "n_inner":
            continue  # four times n_embd
        if not is_whole(value) or not least <= value <= MOST:
            return (
                f"{name} is {shown(value)}, and must be a whole number from {least:,} to {MOST:,}"
            )
    return None


def _wrong_shape(fields: Mapping[str, Any], heads_divisible_by: int) -> str | None:
    width, heads, rotary_dim = fields["n_embd"], fields["n_head"], fields["rotary_dim"]
    if width % heads:
        return f"n_embd, {width}, is not divisible by n_head, {heads}"
    if heads % heads_divisible_by:
        return f"n_head is {heads}, and must be divisible by {heads_divisible_by}"
    most = width // heads
    rotary_dim = most if rotary_dim is None else rotary_dim
    if not is_whole(rotary_dim) or rotary_dim % 2 or not 2 <= rotary_dim <= most:
        return f"rotary_dim is {shown(rotary_dim)}, and must be an even number from 2 to {most:,}"
    return None


def _wrong_function(fields: Mapping[str, Any]) -> str | None:
    activation, epsilon = fields["activation_function"], fields["layer_norm_epsilon"]
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        return (
            f"activation_function is {shown(activation)}, and must be one of "
            f"{', '.join(ACTIVATIONS)}"
        )
    is_number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not is_number or not 0 <= epsilon <= 1:
        return f"layer_norm_epsilon is {shown(epsilon)}, and must be a number from 0 to 1"
    tied = fields["tie_word_embeddings"]
    if not isinstance(tied, bool):
        return f"tie_word_embeddings is {shown(tied)}, and must be true or false"
    return None


def _wrong_ids(fields: Mapping[str, Any]) -> str | None:
    problems = (wrong_ids(name, fields[name]) for name in SPECIAL_IDS)
    return next((problem for problem in problems if problem is not None), None)
