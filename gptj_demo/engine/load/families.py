"""The files of a checkpoint: configuration, layouts of the weights, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import errors as hub_errors
from transformers import GPTJConfig

from gptj_demo.engine.load.errors import Refusal, last_line

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weight files, in the order in which transformers looks for them."""

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""The files fetched from the hub besides the weights."""


def file_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def check_folder(model: str, folder: Path, names: set[str]) -> GPTJConfig:
    """The configuration in `folder`, of a checkpoint of files `names`; raises `Refusal` unless it
    is a complete GPT-J."""
    if "config.json" not in names:
        raise Refusal(f"{model} has no config.json, so it is not a model that can be loaded.")
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = values.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise Refusal(
            f"{model} has a config.json that cannot be read: {last_line(error)}."
        ) from None
    if kind != "gptj":
        raise Refusal(
            f"{model} is not a GPT-J: its config.json says model_type {kind!r}, not 'gptj'."
        )
    if values.get("quantization_config"):
        raise Refusal(
            f"{model} is stored quantized already: take the checkpoint it was made from, with "
            "precision int8."
        )
    try:
        config = GPTJConfig.from_dict(values)
    except (hub_errors.StrictDataclassError, TypeError, ValueError) as error:
        raise Refusal(
            f"{model} has a config.json with a wrong value: {last_line(error)}."
        ) from None
    problem = _wrong_shape(config)
    if problem:
        raise Refusal(f"{model} has a config.json with a wrong value: {problem}.")
    weight_files(model, folder, names)
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise Refusal(f"{model} has no tokenizer: tokenizer.json, or vocab.json with merges.txt.")
    return config


def _wrong_shape(config: GPTJConfig) -> str | None:
    """Why a model of these sizes is impossible, or None.

    transformers reports some of these only when the model is built or run.
    """
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"):
        value = getattr(config, name)
        if value is None and name == "n_inner":
            continue  # four times n_embd
        if not isinstance(value, int) or value < 1:
            return f"{name} is {value}, and must be at least 1"
    if config.n_embd % config.n_head:
        return f"n_embd, {config.n_embd}, is not divisible by n_head, {config.n_head}"
    head_dim, rotary_dim = config.n_embd // config.n_head, config.rotary_dim
    if not isinstance(rotary_dim, int) or rotary_dim % 2 or not 2 <= rotary_dim <= head_dim:
        return f"rotary_dim is {rotary_dim}, and must be an even number from 2 to {head_dim}"
    return None


def weight_files(model: str, folder: Path, names: set[str]) -> list[str]:
    """The weight files, of one format; raises `Refusal` if some are missing."""
    first = next((name for name in WEIGHT_FILES if name in names), None)
    if first is None:
        raise Refusal(f"{model} has no weights: none of {', '.join(WEIGHT_FILES)}.")
    if not first.endswith(".index.json"):
        return [first]
    try:
        index = json.loads((folder / first).read_text(encoding="utf-8"))
        shards = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refusal(f"{model} has a {first} that cannot be read: {last_line(error)}.") from None
    missing = [name for name in shards if name not in names]
    if missing:
        raise Refusal(
            f"{model} lacks {len(missing)} of its {len(shards)} weight files, the first of them "
            f"{missing[0]}."
        )
    return shards
