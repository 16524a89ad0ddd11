"""Where the tokenizer of a served model comes from, and the sizes that its files name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptj_demo.engine.load import SAMPLE_MODEL
from gptj_demo.engine.load.configuration import is_whole, known_ids
from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.folder import file_names, read_object
from gptj_demo.engine.load.hub import HUB_ID, fetch_small_files
from gptj_demo.engine.load.tokenizer_files import MOST_ID

CONTEXT_LENGTH = 2048  # GPT-J's
_CONTEXTS = ("n_positions", "max_position_embeddings", "n_ctx")
_SAMPLE_IDS = ("sample", "sample-model")
"""Names of the sample model in this program's settings and API."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """See `load.tokenizer.Sizes`."""

    vocab_size: int
    n_positions: int
    bos_token_id: int | None
    eos_token_id: list[int] | None


@dataclass(frozen=True, slots=True)
class Origin:
    """See `load.tokenizer.Origin`."""

    source: str
    revision: str | None
    config: Sizes


def find_origin(setting: str | None, revision: str | None, model: Mapping[str, Any]) -> Origin:
    """The origin that the deployer or the server names; `model` is the server's entry of the model.

    Only the deployer can name a folder, because those of the server are on another machine. Raises
    `Refusal`.
    """
    named = [str(model.get(key)) for key in ("root", "id")] if setting is None else [setting]
    for name in named:
        if name in _SAMPLE_IDS:
            return _origin(str(SAMPLE_MODEL), None, model)
        if HUB_ID.fullmatch(name) or (setting is not None and Path(name).is_dir()):
            return _origin(name, revision, model)
    if setting is not None:
        raise Refusal(f"The tokenizer {setting} is neither a folder here nor a hub id.")
    raise Refusal(
        f"The server calls its model {named[-1]}, which is no hub id: set tokenizer to the hub id "
        "or folder of the model's tokenizer."
    )


def _origin(source: str, revision: str | None, model: Mapping[str, Any]) -> Origin:
    folder = Path(source)
    if not folder.is_dir():
        folder = fetch_small_files(source, revision)
    config: dict[str, Any] = {}
    if "config.json" in file_names(folder):
        config = read_object(source, folder, "config.json")
    rows = config.get("vocab_size")
    rows = rows if is_whole(rows) and rows > 0 else MOST_ID
    lengths = [model.get("max_model_len"), *(config.get(name) for name in _CONTEXTS)]
    beginnings = known_ids(config.get("bos_token_id"), rows)
    return Origin(
        source,
        revision,
        Sizes(
            rows,
            next((length for length in lengths if is_whole(length) and length > 0), CONTEXT_LENGTH),
            beginnings[0] if beginnings else None,
            known_ids(config.get("eos_token_id"), rows),
        ),
    )
