"""Opens the weight files of a checkpoint and checks every tensor against the configuration.

Nothing is read from the disk but names, types and shapes: the tensors are mapped. transformers gets
the checked tensors and no path, so it opens no other file of the folder.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GPTJConfig
from transformers.modeling_utils import _is_on_hf_mount

from gptj_demo.engine.load.errors import Refusal, kind_of, last_line, shown
from gptj_demo.engine.load.families import weight_files
from gptj_demo.engine.load.folder import file_names, path_in
from gptj_demo.engine.load.legacy import is_legacy, map_tensors
from gptj_demo.texts import first_line

MOST_HEADER_BYTES = 32_000_000
"""Of what names a file's tensors; GPT-J's has 30 KB."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Types that weights can have, by their names in safetensors files."""

_IN_LAYER = re.compile(r"transformer\.h\.(0|[1-9]\d{0,7})\.(.+)")


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """The tensors of a checkpoint that belong to the model, by name.

    Each is a tensor, or a part of a safetensors file that is read when it is indexed.
    """

    tensors: dict[str, Any]
    dtype: torch.dtype
    """The type of the first one."""


def open_tensors(source: str, folder: Path, config: GPTJConfig) -> StoredTensors:
    """The mapped tensors of the checkpoint in `folder`, all that the model needs and no other.

    Raises `Refusal` if one is missing, or has another type or shape. No code in the files is run.
    """
    sizes = _Sizes(config)
    tensors: dict[str, Any] = {}
    for name in weight_files(source, folder, file_names(folder)):
        path = path_in(source, folder, name)
        with _refusing(source):
            stored = _map_safetensors(path) if path.suffix == ".safetensors" else _map_bin(path)
        if not isinstance(stored, Mapping):
            raise Refusal(
                f"The weights of {source} cannot be used: {name} holds {kind_of(stored)}, not "
                "tensors by their names."
            )
        for key, value in stored.items():
            if isinstance(key, str) and sizes.shape_of(key) is not None:
                tensors[key] = _checked(source, key, value)
    sizes.check(source, {key: tuple(_shape(value)) for key, value in tensors.items()})
    return StoredTensors(tensors, _dtype(next(iter(tensors.values()))))


class _Sizes:
    """The names and shapes of the tensors that a GPT-J of a configuration has."""

    def __init__(self, config: GPTJConfig) -> None:
        width, rows = config.n_embd, config.vocab_size
        inner = config.n_inner or 4 * width
        self._layers = config.n_layer
        self._is_tied = config.tie_word_embeddings
        self._in_layer = {
            "ln_1.weight": (width,),
            "ln_1.bias": (width,),
            "attn.q_proj.weight": (width, width),
            "attn.k_proj.weight": (width, width),
            "attn.v_proj.weight": (width, width),
            "attn.out_proj.weight": (width, width),
            "mlp.fc_in.weight": (inner, width),
            "mlp.fc_in.bias": (inner,),
            "mlp.fc_out.weight": (width, inner),
            "mlp.fc_out.bias": (width,),
        }
        self._others = {
            "transformer.wte.weight": (rows, width),
            "transformer.ln_f.weight": (width,),
            "transformer.ln_f.bias": (width,),
            "lm_head.weight": (rows, width),
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
            given.add("lm_head.weight")
        missing = needed - len(given)
        if missing:
            first = next(name for name in self._names() if name not in given)
            tensors = "1 tensor" if missing == 1 else f"{missing} tensors"
            raise Refusal(f"The weights of {source} lack {tensors}, {first} to begin with.")

    def _names(self) -> Iterator[str]:
        yield from self._others
        for layer in range(self._layers):
            yield from (f"transformer.h.{layer}.{name}" for name in self._in_layer)


@contextmanager
def _refusing(source: str) -> Iterator[None]:
    """Turns what a damaged file raises into a `Refusal`."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise Refusal(
            f"The weights of {source} are damaged, or hold code, which is not run: take them "
            "from somewhere else, best as safetensors."
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        problem = first_line(error) if isinstance(error, RuntimeError) else last_line(error)
        raise Refusal(f"The weights of {source} cannot be read: {problem}.") from error


def _map_safetensors(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER_BYTES:
        raise OSError(
            f"the header of {path.name} has {length:,} bytes, and may have {MOST_HEADER_BYTES:,}"
        )
    # as transformers does: mapping can deadlock on this file system
    backend = "pread" if _is_on_hf_mount(path) else "mmap"
    mapped: Any = safe_open(path, framework="pt", device="cpu", backend=backend)
    return {name: mapped.get_slice(name) for name in mapped.keys()}  # noqa: SIM118  # not a dict


def _map_bin(path: Path) -> Any:
    """The object in a file of `torch.save`: hopefully tensors by name."""
    if is_legacy(path):
        return map_tensors(path)
    if not zipfile.is_zipfile(path):
        raise OSError(f"{path.name} is not a file that torch.save writes")
    _check_records(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_records(path: Path) -> None:
    """Raise `OSError` unless a zip file's records lie in it as they are: a compressed one could be
    thousands of times as large in memory."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as file:
        for record in file.infolist():
            is_stored = record.compress_type == zipfile.ZIP_STORED
            if not is_stored or record.file_size != record.compress_size:
                raise OSError(f"{path.name} is compressed, which torch.save does not do")
            if record.header_offset + record.file_size > size:
                raise OSError(f"{path.name} ends early")
            if record.filename.endswith("/data.pkl") and record.file_size > MOST_HEADER_BYTES:
                raise OSError(f"{path.name} holds more than tensors")


def _checked(source: str, name: str, value: Any) -> Any:
    """A value that stands for a tensor of the model; raises `Refusal` if it is none."""
    if isinstance(value, torch.Tensor):
        is_plain = value.layout == torch.strided and not value.is_meta
        if is_plain and value.dtype in DTYPES.values():
            return value.detach().contiguous()
        kind = f"of type {str(value.dtype).removeprefix('torch.')}"
        kind = kind if is_plain else f"{value.layout} on {value.device}".removeprefix("torch.")
    elif hasattr(value, "get_dtype"):  # a part of a safetensors file
        if value.get_dtype() in DTYPES:
            return value
        kind = f"of type {value.get_dtype()}"
    else:
        kind = shown(value)
    raise Refusal(
        f"The weights of {source} cannot be used: {name} is {kind}, and must be a tensor of type "
        "float32, float16, bfloat16 or float64."
    )


def _shape(value: Any) -> list[int]:
    return list(value.shape if isinstance(value, torch.Tensor) else value.get_shape())


def _dtype(value: Any) -> torch.dtype:
    return value.dtype if isinstance(value, torch.Tensor) else DTYPES[value.get_dtype()]
