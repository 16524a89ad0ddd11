"""Opens the weight files of a checkpoint and checks every tensor against the configuration.

Only names, types and shapes are read from the disk; the tensors are mapped. transformers gets the
checked tensors and no path, so it opens no other file of the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GPTJConfig

from gptj_demo.engine.load.eight_bit import is_statistic, refuse_other_kinds, with_weights
from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.families import Family, weight_files
from gptj_demo.engine.load.folder import file_names, path_in
from gptj_demo.engine.load.mapping import map_file
from gptj_demo.engine.load.projections import JOINT, separated
from gptj_demo.engine.load.values import dtype_of, shape_of

EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"

Change = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes the checked values of a checkpoint by name, and returns them with adapters merged."""

_IN_LAYER = re.compile(r"transformer\.h\.(0|[1-9]\d{0,7})\.(.+)")
_WITHOUT_PREFIX = re.compile(r"(?:h\.\d+|wte|ln_f)\.")


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """The tensors of a checkpoint that belong to the model, by name; see `values.py`."""

    tensors: dict[str, Any]
    dtype: torch.dtype
    """The type of the embedding."""
    is_tied: bool
    """Whether the head is the embedding."""


def open_tensors(
    source: str,
    folder: Path,
    config: GPTJConfig,
    family: Family,
    change: Change = lambda values: values,
) -> StoredTensors:
    """The mapped tensors of the checkpoint in `folder`, all that the model needs and no other.

    Raises `Refusal` if one is missing, or has another type or shape. No code in the files is run.
    """
    sizes = _Sizes(config, family)
    found: dict[str, Any] = {}
    for name in weight_files(source, folder, file_names(folder)):
        stored = map_file(source, path_in(source, folder, name))
        refuse_other_kinds(source, stored)
        for key, value in stored.items():
            full = full_name(key)
            if sizes.shape_of(full) is not None or is_statistic(full):
                found[full] = value
    values = with_weights(source, found)
    sizes.check(source, {key: shape_of(value) for key, value in values.items()})
    is_tied = config.tie_word_embeddings
    if is_tied:
        values[HEAD] = values[EMBEDDING]
    values = change(values)
    is_tied = is_tied and values[HEAD] is values[EMBEDDING]
    if is_tied:
        del values[HEAD]
    tensors = separated(values)
    dtype = dtype_of(tensors[EMBEDDING])
    assert dtype is not None
    return StoredTensors(tensors, dtype, is_tied)


def full_name(name: str) -> str:
    """The full name of a tensor or module; files of the model without its head omit the prefix."""
    return f"transformer.{name}" if _WITHOUT_PREFIX.match(name) else name


class _Sizes:
    """The names and shapes of the tensors that a checkpoint of a family and configuration has."""

    def __init__(self, config: GPTJConfig, family: Family) -> None:
        width, rows = config.n_embd, config.vocab_size
        inner = config.n_inner or 4 * width
        self._layers = config.n_layer
        self._is_tied = config.tie_word_embeddings
        separate = ("attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight")
        projections = (
            {JOINT: (3 * width, width)}
            if family.joins_projections
            else dict.fromkeys(separate, (width, width))
        )
        self._in_layer: dict[str, tuple[int, ...]] = {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            **projections,
            "attn.out_proj.weight": (width, width),
            "mlp.fc_in.weight": (inner, width),
            "mlp.fc_in.bias": (inner,),
            "mlp.fc_out.weight": (width, inner),
            "mlp.fc_out.bias": (width,),
        }
        self._others: dict[str, tuple[int, ...]] = {
            EMBEDDING: (rows, width),
            "transformer.ln_f.weight": (width,),
            "transformer.ln_f.bias": (width,),
            HEAD: (rows, width),
            "lm_head.bias": (rows,),
        }

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """The shape that the tensor of this name must have; None if the model has none."""
        found = _IN_LAYER.fullmatch(name)
        if found is None:
            return self._others.get(name)
        return self._in_layer.get(found[2]) if int(found[1]) < self._layers else None

    def check(self, source: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise `Refusal` unless these are the shapes of all tensors."""
        for name in sorted(shapes):
            if shapes[name] != self.shape_of(name):
                raise Refusal(
                    f"The weights of {source} are not those of its config.json: {name} is "
                    f"{list(shapes[name])}, not {list(self.shape_of(name) or ())}."
                )
        # config.json may claim millions of layers, so names are made only up to the first missing
        needed = len(self._in_layer) * self._layers + len(self._others)
        given = set(shapes)
        if self._is_tied:  # the head is the embedding, and need not be stored
            given.add(HEAD)
        missing = needed - len(given)
        if missing:
            first = next(name for name in self._names() if name not in given)
            tensors = "1 tensor" if missing == 1 else f"{missing} tensors"
            raise Refusal(f"The weights of {source} lack {tensors}, {first} to begin with.")

    def _names(self) -> Iterator[str]:
        yield from self._others
        for layer in range(self._layers):
            yield from (f"transformer.h.{layer}.{name}" for name in self._in_layer)
