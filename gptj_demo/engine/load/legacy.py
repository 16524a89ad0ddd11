"""Maps weight files that `torch.save` wrote before version 1.6; torch itself cannot map them.

Such a file holds pickles (magic number, version, system of the writer, objects, keys of the
storages) and then each storage: its number of elements in 8 bytes, and its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import _weights_only_unpickler as weights_only
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from gptj_demo.texts import first_line

_COUNT_BYTES = 8
_ZIP = b"PK\x03\x04"


class _Stored(NamedTuple):
    dtype: torch.dtype
    bytes: int


def is_legacy(path: Path) -> bool:
    """Whether a file is a `.bin` of the old format, by its first pickle."""
    if path.suffix != ".bin":
        return False
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:
            return False
        file.seek(0)
        try:
            return bool(_unpickle(file) == MAGIC_NUMBER)
        except Exception:  # not a pickle: not the old format
            return False


def map_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of an old file, mapped from the disk; no code from the file is run.

    The tensors may be unaligned. Raises `UnpicklingError` for objects other than tensors, and
    `OSError` for a damaged file.
    """
    try:
        return _map_tensors(path)
    except (OSError, UnpicklingError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise OSError(f"{path.name} is damaged ({first_line(error)})") from error


def _map_tensors(path: Path) -> dict[str, torch.Tensor]:
    size = path.stat().st_size
    with path.open("rb") as file:
        _, version, system = _unpickle(file), _unpickle(file), _unpickle(file)
        if version != PROTOCOL_VERSION or system["little_endian"] != (sys.byteorder == "little"):
            raise OSError(f"{path.name} was written by another version or kind of machine")
        objects = file.tell()

        # The storages' offsets come after the objects, so the objects are read twice.
        stored: dict[str, _Stored] = {}

        def note(key: str, dtype: torch.dtype, count: int) -> torch.UntypedStorage:
            stored[key] = _Stored(dtype, count * dtype.itemsize)
            storage: Any = torch.UntypedStorage
            return storage(stored[key].bytes, device="meta")  # type: ignore[no-any-return]

        _unpickle(file, note)
        keys = _unpickle(file)
        place = file.tell()
        places: dict[str, int] = {}
        for key in keys:
            places[key] = place + _COUNT_BYTES
            place = places[key] + stored[key].bytes
        if place > size:
            raise OSError(f"{path.name} ends early")
        whole = torch.UntypedStorage.from_file(str(path), False, size)

        def find(key: str, dtype: torch.dtype, count: int) -> torch.UntypedStorage:
            begin = places[key]
            part: Any = whole[begin : begin + count * dtype.itemsize]
            return part  # type: ignore[no-any-return]

        file.seek(objects)
        tensors: dict[str, torch.Tensor] = _unpickle(file, find)
    return tensors


def _unpickle(
    file: BinaryIO,
    storage_of: Callable[[str, torch.dtype, int], torch.UntypedStorage] | None = None,
) -> Any:
    """The next pickle, which may contain only tensors and plain values."""
    unpickler: Any = weights_only.Unpickler(file, encoding="utf-8")

    def load_storage(saved: tuple[Any, ...]) -> Any:
        kind, storage_type, key, _, count, view = saved
        if kind != "storage" or storage_of is None:
            raise UnpicklingError(f"{kind} is not a tensor's storage")
        dtype = storage_type.dtype
        storage: Any = storage_of(key, dtype, count)
        if view is not None:
            _, first, length = view
            storage = storage[first * dtype.itemsize : (first + length) * dtype.itemsize]
        typed_storage: Any = torch.storage.TypedStorage
        return typed_storage(wrap_storage=storage, dtype=dtype, _internal=True)

    unpickler.persistent_load = load_storage
    return unpickler.load()
