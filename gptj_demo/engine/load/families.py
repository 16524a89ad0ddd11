"""The families of checkpoints, and the files of one: configuration, weights, tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GPTJConfig

from gptj_demo.engine.load.configuration import read_configuration
from gptj_demo.engine.load.errors import Refusal, shown
from gptj_demo.engine.load.folder import read_object, wrong_value
from gptj_demo.engine.load.projections import CORES

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


@dataclass(frozen=True, slots=True)
class Family:
    """Models that compute what GPT-J does, and how their checkpoints differ from GPT-J's."""

    name: str
    maker: str
    """The hub account that has the original models."""
    licence: str
    """The licence of the original models' weights."""
    joins_projections: bool = False
    """Whether query, key and value are one tensor; see `projections.py`."""


FAMILIES = {
    "gptj": Family("GPT-J", "EleutherAI", "Apache 2.0"),
    "codegen": Family("CodeGen", "Salesforce", "BSD 3-Clause", joins_projections=True),
}
"""The families by the model_type of their config.json."""


@dataclass(frozen=True, slots=True)
class Description:
    """What the small files of a checkpoint say about it."""

    config: GPTJConfig
    family: Family
    is_eight_bit: bool
    """Whether bitsandbytes saved it in 8 bits."""


def check_folder(model: str, folder: Path, names: set[str]) -> Description:
    """The description of the checkpoint in `folder`, of files `names`; raises `Refusal` unless it
    is a complete GPT-J."""
    if "config.json" not in names:
        raise Refusal(f"{model} has no config.json, so it is not a model that can be loaded.")
    values = read_object(model, folder, "config.json")
    kind = values.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise Refusal(
            f"{model} is not a GPT-J: its config.json says model_type {shown(kind)}, not "
            f"{' or '.join(map(shown, FAMILIES))}."
        )
    is_eight_bit = _is_eight_bit(model, values)
    divisor = CORES if family.joins_projections else 1
    config = read_configuration(model, values, heads_divisible_by=divisor)
    weight_files(model, folder, names)
    if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
        raise Refusal(f"{model} has no tokenizer: tokenizer.json, or vocab.json with merges.txt.")
    return Description(config, family, is_eight_bit)


def _is_eight_bit(model: str, values: Mapping[str, Any]) -> bool:
    """Whether bitsandbytes saved a checkpoint in 8 bits; raises `Refusal` for all other kinds."""
    quantization = values.get("quantization_config")
    if not quantization:
        return False
    fields = quantization if isinstance(quantization, dict) else {}
    method = fields.get("quant_method", "bitsandbytes" if "load_in_8bit" in fields else None)
    if method == "bitsandbytes" and fields.get("load_in_8bit") is True:
        return True
    how = "in 4 bits" if fields.get("load_in_4bit") else f"with {shown(method)}"
    raise Refusal(
        f"{model} is stored quantized already, {how}, which is not read: take the checkpoint it "
        "was made from, with precision int8."
    )


def weight_files(model: str, folder: Path, names: set[str]) -> list[str]:
    """The weight files, of one format; raises `Refusal` if some are missing."""
    first = next((name for name in WEIGHT_FILES if name in names), None)
    if first is None:
        return _shards_without_index(model, names)
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
    _check_complete(model, shards, names)
    return shards


def _shards_without_index(model: str, names: set[str]) -> list[str]:
    """The shards that name themselves as such, of safetensors or else of the older format."""
    for kind in ("model.safetensors", "pytorch_model.bin"):
        stem, _, suffix = kind.rpartition(".")
        pattern = re.compile(rf"{stem}-\d{{5}}-of-(\d{{5}})\.{suffix}")
        counts = {found[1] for name in names if (found := pattern.fullmatch(name))}
        if counts:
            count = max(counts)
            shards = [f"{stem}-{i + 1:05}-of-{count}.{suffix}" for i in range(int(count))]
            _check_complete(model, shards, names)
            return shards
    raise Refusal(f"{model} has no weights: none of {', '.join(WEIGHT_FILES)}.")


def _check_complete(model: str, shards: list[str], names: set[str]) -> None:
    missing = [name for name in shards if name not in names]
    if missing:
        raise Refusal(
            f"{model} lacks {len(missing)} of its {len(shards)} weight files, the first of them "
            f"{missing[0]}."
        )
