"""The files of a checkpoint: configuration, layouts of the weights, tokenizer."""

from __future__ import annotations

from pathlib import Path

from transformers import GPTJConfig

from gptj_demo.engine.load.configuration import read_configuration
from gptj_demo.engine.load.errors import Refusal, shown
from gptj_demo.engine.load.folder import read_object, wrong_value

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


def check_folder(model: str, folder: Path, names: set[str]) -> GPTJConfig:
    """The configuration in `folder`, of a checkpoint of files `names`; raises `Refusal` unless it
    is a complete GPT-J."""
    if "config.json" not in names:
        raise Refusal(f"{model} has no config.json, so it is not a model that can be loaded.")
    values = read_object(model, folder, "config.json")
    kind = values.get("model_type")
    if kind != "gptj":
        raise Refusal(
            f'{model} is not a GPT-J: its config.json says model_type {shown(kind)}, not "gptj".'
        )
    if values.get("quantization_config"):
        raise Refusal(
            f"{model} is stored quantized already: take the checkpoint it was made from, with "
            "precision int8."
        )
    config = read_configuration(model, values)
    weight_files(model, folder, names)
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise Refusal(f"{model} has no tokenizer: tokenizer.json, or vocab.json with merges.txt.")
    return config


def weight_files(model: str, folder: Path, names: set[str]) -> list[str]:
    """The weight files, of one format; raises `Refusal` if some are missing."""
    first = next((name for name in WEIGHT_FILES if name in names), None)
    if first is None:
        raise Refusal(f"{model} has no weights: none of {', '.join(WEIGHT_FILES)}.")
    if not first.endswith(".index.json"):
        return [first]
    files = read_object(model, folder, first).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise wrong_value(model, first, f"weight_map is {shown(files)}, and must name files")
    suffix = first.removesuffix(".index.json").rpartition(".")[2]
    for name in files.values():
        # a path could lead out of the folder
        if not isinstance(name, str) or "/" in name or not name.endswith(f".{suffix}"):
            raise wrong_value(
                model,
                first,
                f"it names the file {shown(name)}, and must name .{suffix} files in its folder",
            )
    shards = sorted(set(files.values()))
    missing = [name for name in shards if name not in names]
    if missing:
        raise Refusal(
            f"{model} lacks {len(missing)} of its {len(shards)} weight files, the first of them "
            f"{missing[0]}."
        )
    return shards
