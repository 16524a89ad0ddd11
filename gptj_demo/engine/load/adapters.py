"""Finds the LoRA adapters of the settings and reads their adapter_config.json."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptj_demo.engine.load.configuration import is_whole
from gptj_demo.engine.load.errors import Refusal, shown
from gptj_demo.engine.load.folder import file_names, read_object, wrong_value
from gptj_demo.engine.load.hub import HUB_ID, Report, fetch_files, fetch_small_files, names_in

CONFIGURATION = "adapter_config.json"
WEIGHT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of an adapter's weights, in the order in which peft looks for them."""

MOST_RANK = 65_536
MOST_WEIGHT = 100.0

_OTHER_KINDS = (
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)
"""Fields of adapters that are not just changes to add to the model's weights."""

_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Prefixes of init_lora_weights for which peft changes the base model before the training."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """The configuration of a LoRA adapter; its weights are not read yet."""

    name: str
    """The hub id, or the folder's name: its path is private."""
    source: str
    """A hub id or a local folder."""
    folder: Path
    """The local folder, or the snapshot of the hub id."""
    weight: float
    """The factor on the adapter's change; 1 is the change that was trained."""
    base: str | None
    """The base model that it names."""
    rank: int
    alpha: float
    is_rank_stabilized: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    @property
    def label(self) -> str:
        """The name, and the weight unless it is 1, as in the setting."""
        return self.name if self.weight == 1 else f"{self.name}={self.weight:g}"

    def rank_of(self, module: str) -> int:
        """The rank of a module's matrices by the configuration."""
        return self.rank_pattern.get(_key_of(self.rank_pattern, module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor on the product of a module's matrices."""
        rank = self.rank_of(module)
        alpha = self.alpha_pattern.get(_key_of(self.alpha_pattern, module), self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilized else rank)


def find_adapters(setting: str) -> tuple[Adapter, ...]:
    """The adapters of the setting, hub ids and folders, some with `=WEIGHT`, separated by commas.

    For a hub id it fetches the configuration and the list of files. Raises `Refusal`.
    """
    parts = (part.strip() for part in setting.split(","))
    return tuple(_find(*_weighted(part)) for part in parts if part)


def base_of(adapters: tuple[Adapter, ...]) -> str:
    """The base model that the adapters name; raises `Refusal` unless they name one."""
    bases = {adapter.base for adapter in adapters}
    if len(bases) > 1:
        named = ", ".join(f"{adapter.name} {adapter.base or 'none'}" for adapter in adapters)
        raise Refusal(
            f"The adapters name different base models ({named}): set model to the one to use."
        )
    (base,) = bases
    if base is None:
        raise Refusal(f"The adapter {adapters[0].name} names no base model: set model to it.")
    return base


def fetch_adapter(adapter: Adapter, report: Report) -> Path:
    """The file with an adapter's weights, downloaded if it is missing; raises `Refusal`."""
    is_local = Path(adapter.source).is_dir()
    names = file_names(adapter.folder) if is_local else names_in(adapter.source, adapter.folder)
    name = _weight_file(adapter.name, names)
    if not is_local:
        fetch_files(adapter.source, adapter.folder, [name], report)
    return adapter.folder / name


def _weighted(part: str) -> tuple[str, float]:
    """The source and the weight that a part of the setting names."""
    source, separator, written = part.rpartition("=")
    if not separator or Path(part).expanduser().is_dir():
        return part, 1.0
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not abs(weight) <= MOST_WEIGHT:  # or it is NaN
        raise Refusal(
            f"The weight of the adapter {source} is {shown(written)}, and must be a number from "
            f"-{MOST_WEIGHT:g} to {MOST_WEIGHT:g}."
        )
    return source.strip(), weight


def _find(source: str, weight: float) -> Adapter:
    path = Path(source).expanduser()
    if path.is_file() and path.name in (CONFIGURATION, *WEIGHT_FILES):
        path = path.parent
    if path.is_dir():
        name, source, folder, names = path.resolve().name, str(path), path, file_names(path)
    elif HUB_ID.fullmatch(source):
        name, folder = source, fetch_small_files(source, None, (CONFIGURATION,))
        names = names_in(source, folder)
    else:
        raise Refusal(
            f"The adapter {source} was not found: set adapter to folders or hub ids, separated by "
            "commas, each followed by =WEIGHT if that is not 1."
        )
    if CONFIGURATION not in names:
        raise Refusal(f"{source} has no {CONFIGURATION}, so it is not an adapter.")
    _weight_file(name, names)
    values = read_object(f"the adapter {name}", folder, CONFIGURATION)
    try:
        return _read(name, source, folder, weight, values)
    except _Wrong as wrong:
        raise wrong_value(f"the adapter {name}", CONFIGURATION, str(wrong)) from None


def _weight_file(name: str, names: set[str]) -> str:
    found = next((file for file in WEIGHT_FILES if file in names), None)
    if found is None:
        raise Refusal(
            f"The adapter {name} has no weights: neither of {' and '.join(WEIGHT_FILES)}."
        )
    return found


class _Wrong(Exception):
    """A value that an adapter_config.json must not hold; the message is a part of a sentence."""


def _read(
    name: str, source: str, folder: Path, weight: float, values: Mapping[str, Any]
) -> Adapter:
    kind = values.get("peft_type")
    if kind != "LORA":
        raise Refusal(
            f"The adapter {name} is of the kind {shown(kind)}, and only LORA can be merged into "
            "the model."
        )
    for field in _OTHER_KINDS:
        if values.get(field):
            raise Refusal(
                f"The adapter {name} is made with {field}, which cannot be merged into the model: "
                "take one without it."
            )
    start = values.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGES_BASE):
        raise Refusal(
            f"The adapter {name} belongs to a base model that {start} changed before the training: "
            "save it again with peft's path_initial_model_for_weight_conversion."
        )
    base = values.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise _Wrong(f"base_model_name_or_path is {shown(base)}, and must be a text")
    stabilized = values.get("use_rslora") or False
    if not isinstance(stabilized, bool):
        raise _Wrong(f"use_rslora is {shown(stabilized)}, and must be true or false")
    ranks, alphas = _pattern(values, "rank_pattern"), _pattern(values, "alpha_pattern")
    return Adapter(
        name=name,
        source=source,
        folder=folder,
        weight=weight,
        base=base or None,
        rank=_rank("r", values.get("r", 8)),
        alpha=_alpha("lora_alpha", values.get("lora_alpha", 8)),
        is_rank_stabilized=stabilized,
        rank_pattern={key: _rank(f"rank_pattern of {key}", one) for key, one in ranks.items()},
        alpha_pattern={key: _alpha(f"alpha_pattern of {key}", one) for key, one in alphas.items()},
    )


def _rank(name: str, value: object) -> int:
    if not is_whole(value) or not 1 <= value <= MOST_RANK:
        raise _Wrong(
            f"{name} is {shown(value)}, and must be a whole number from 1 to {MOST_RANK:,}"
        )
    return value


def _alpha(name: str, value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= 1e6:  # type: ignore[arg-type]
        raise _Wrong(f"{name} is {shown(value)}, and must be a number up to 1,000,000")
    return float(value)  # type: ignore[arg-type]


def _pattern(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a pattern by regular expressions for the ends of modules' names."""
    pattern = values.get(name) or {}
    if not isinstance(pattern, dict):
        raise _Wrong(f"{name} is {shown(pattern)}, and must be an object")
    for key in pattern:
        if (why := _wrong_expression(key)) is not None:
            raise _Wrong(f"{name} has {shown(key)}, which is no regular expression ({why})")
    return pattern


def _wrong_expression(key: str) -> str | None:
    try:
        re.compile(_expression(key))
    except re.error as error:
        return str(error)
    return None


def _expression(key: str) -> str:
    return rf"(.*\.)?({key})$"


def _key_of(pattern: Mapping[str, Any], module: str) -> str:
    """The first key of a pattern that matches the end of a module's name, as peft looks for it."""
    return next((key for key in pattern if re.match(_expression(key), module)), module)
