"""Opens weight files: names, types and shapes are read, the tensors are mapped from the disk."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.modeling_utils import _is_on_hf_mount

from gptj_demo.engine.load.errors import Refusal, kind_of, last_line, shown
from gptj_demo.engine.load.folder import POINTS, is_pointer, unreadable
from gptj_demo.engine.load.legacy import is_legacy, map_tensors
from gptj_demo.engine.load.values import DTYPES, Computed, dtype_of
from gptj_demo.texts import first_line

MOST_HEADER_BYTES = 32_000_000
"""The largest header that names a file's tensors; GPT-J's has 30 KB."""

_BY_DEFAULT = tuple(DTYPES.values())


def map_file(source: str, path: Path) -> dict[str, Any]:
    """The values of a weight file of `source` by name, mapped; raises `Refusal`.

    No code in the file is run. The values of a `.bin` need not be tensors: see `checked`.
    """
    with _refusing(source):
        if is_pointer(path):
            raise unreadable(source, path.name, POINTS)
        stored = _map_safetensors(path) if path.suffix == ".safetensors" else _map_bin(path)
    if not isinstance(stored, Mapping):
        raise Refusal(
            f"The weights of {source} cannot be used: {path.name} holds {kind_of(stored)}, not "
            "tensors by their names."
        )
    return {key: value for key, value in stored.items() if isinstance(key, str)}


def checked(
    source: str, name: str, value: Any, dtypes: tuple[torch.dtype, ...] = _BY_DEFAULT
) -> Any:
    """The value, if it stands for a tensor of one of these types; else raises `Refusal`."""
    if isinstance(value, torch.Tensor):
        is_plain = value.layout == torch.strided and not value.is_meta
        if is_plain and value.dtype in dtypes:
            return value.detach().contiguous()
        kind = f"of type {str(value.dtype).removeprefix('torch.')}"
        kind = kind if is_plain else f"{value.layout} on {value.device}".removeprefix("torch.")
    elif isinstance(value, Computed):
        return value
    elif hasattr(value, "get_dtype"):  # a part of a safetensors file
        if dtype_of(value) in dtypes:
            return value
        kind = f"of type {value.get_dtype()}"
    else:
        kind = shown(value)
    *others, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
    types = f"{', '.join(others)} or {last}" if others else last
    raise Refusal(
        f"The weights of {source} cannot be used: {name} is {kind}, and must be a tensor of type "
        f"{types}."
    )


@contextmanager
def _refusing(source: str) -> Iterator[None]:
    """Turns what a damaged file raises into a `Refusal`."""
    try:
        yield
    except Refusal:
        raise
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
    try:
        mapped: Any = safe_open(path, framework="pt", device="cpu", backend=backend)
    except SafetensorError as error:
        problem = last_line(error)
        raise OSError(f"{path.name} is cut off or damaged ({problem}): download it again") from None
    return {name: mapped.get_slice(name) for name in mapped.keys()}  # noqa: SIM118  # not a dict


def _map_bin(path: Path) -> Any:
    """The object in a file of `torch.save`; it should be tensors by name."""
    if is_legacy(path):
        return map_tensors(path)
    if not zipfile.is_zipfile(path):
        raise OSError(
            f"{path.name} is not a file that torch.save writes, or it is cut off: download it again"
        )
    _check_records(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_records(path: Path) -> None:
    """Raise `OSError` unless all records of a zip file are uncompressed: a compressed one could be
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
