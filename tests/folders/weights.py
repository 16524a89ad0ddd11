"""Damaged weights: safetensors files with wrong headers, and pickles of arbitrary objects."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.engine.checkpoints import Layout
from tests.folders.case import Case, Damage, Scene, linked, replaced, truncated

Header = dict[str, Any]
WEIGHT = "transformer.wte.weight"
BIN = "pytorch_model.bin"


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.evidence),)


# ---- safetensors


def header_of(content: bytes) -> tuple[Header, bytes]:
    """The header of a safetensors file, and the bytes after it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A safetensors file; `length` is its field for the header's length, correct by default."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _header(change: Callable[[Header], Any]) -> Damage:
    """Change the header of model.safetensors."""

    def damage(scene: Scene) -> None:
        path = scene.folder / "model.safetensors"
        header, data = header_of(path.read_bytes())
        changed = change(header)
        path.write_bytes(
            with_header(json.dumps(header if changed is None else changed).encode(), data)
        )

    return damage


def _entry(**values: Any) -> Damage:
    """Change what the header says of one tensor."""
    return _header(lambda header: header[WEIGHT].update(values))


def _raw(make: Callable[[bytes, bytes], bytes]) -> Damage:
    """Make model.safetensors anew from its header and its data."""

    def damage(scene: Scene) -> None:
        path = scene.folder / "model.safetensors"
        header, data = header_of(path.read_bytes())
        path.write_bytes(make(json.dumps(header).encode(), data))

    return damage


def _overlap(header: Header) -> None:
    first, second, *_ = (name for name in header if name != "__metadata__")
    header[first]["data_offsets"] = header[second]["data_offsets"]


def _drop(header: Header) -> Header:
    return {name: value for name, value in header.items() if name != WEIGHT}


HEADERS: dict[str, Damage] = {
    "two tensors at one place": _header(_overlap),
    "a tensor is missing": _header(_drop),
    "an empty object": _header(lambda header: {}),
    "a list": _header(lambda header: []),
    "null": _header(lambda header: [None]),
    "metadata that is no text": _header(lambda header: header.update(__metadata__={"a": 1})),
    "metadata that is a list": _header(lambda header: header.update(__metadata__=[])),
    "a tensor that is a number": _header(lambda header: header.update({WEIGHT: 7})),
    "another tensor that has no place": _header(
        lambda header: header.update(x={"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    ),
    "a header of 2**63 bytes": _raw(lambda header, data: with_header(header, data, 2**63)),
    "a header of 2**64 - 1 bytes": _raw(lambda header, data: with_header(header, data, 2**64 - 1)),
    "a header of 99 MB": _raw(lambda header, data: with_header(header, data, 99_000_000)),
    "a header longer than the file": _raw(lambda header, data: with_header(header, data, 10**6)),
    "a header of no bytes": _raw(lambda header, data: with_header(header, data, 0)),
    "a header that is too short": _raw(lambda header, data: with_header(header, data, 100)),
    "a header that is all spaces": _raw(lambda header, data: with_header(b" " * 1000, data)),
    "a header nested deeply": _raw(lambda header, data: with_header(b"[" * 10_000, data)),
    "a header that is not UTF-8": _raw(lambda header, data: with_header(b"\xff" * 100, data)),
    "a large header of spaces": _raw(
        lambda header, data: with_header(header + b" " * 33_000_000, data)
    ),
    "no data": _raw(lambda header, data: with_header(header, b"")),
    "less data": _raw(lambda header, data: with_header(header, data[:-4])),
    "more data": _raw(lambda header, data: with_header(header, data + b"1234")),
    "seven bytes": replaced("model.safetensors", b"1234567"),
    "empty": replaced("model.safetensors", b""),
    "zeros": replaced("model.safetensors", b"\0" * 1000),
    "a web page": replaced("model.safetensors", b"<!DOCTYPE html><html></html>" * 10),
    "a pointer of Git LFS": replaced(
        "model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    ),
    "a link": linked("model.safetensors"),
}

DTYPES = ("I64", "I8", "BOOL", "F8_E4M3", "F16", "F64", "C64", "F4", "X", "", 7, None)
SHAPES = ([], [32, 320], [320, 33], [320 * 32], [2**40, 2**40], [0], [-1, 32], [1.5], "x", None, 7)
OFFSETS = ([0, 4], [0, 2**63], [-4, 0], [8, 4], [0], [], "x", None, [10**30, 10**30], [1.5, 2.5])


def safetensors_cases() -> Iterator[Case]:
    """Cases of one safetensors file."""
    for name, damage in HEADERS.items():
        yield Case("safetensors", name, damage)
    for dtype in DTYPES:
        yield Case("safetensors", f"dtype {dtype}", _entry(dtype=dtype))
    for shape in SHAPES:
        yield Case("safetensors", f"shape {shape}", _entry(shape=shape))
    for offsets in OFFSETS:
        yield Case("safetensors", f"offsets {offsets}", _entry(data_offsets=offsets))
    for value in (float("nan"), float("inf"), 3e38):
        yield Case("safetensors", f"all weights {value}", _filled(value), loads=True)


def _filled(value: float) -> Damage:
    def damage(scene: Scene) -> None:
        path = scene.folder / "model.safetensors"
        header, data = header_of(path.read_bytes())
        filled = struct.pack("<f", value) * (len(data) // 4)
        path.write_bytes(with_header(json.dumps(header).encode(), filled))

    return damage


# ---- pickles


def _saved(make: Callable[[dict[str, torch.Tensor], Scene], Any], *, zipped: bool = True) -> Damage:
    """Save another object, made from the tensors of pytorch_model.bin."""

    def damage(scene: Scene) -> None:
        path = scene.folder / BIN
        tensors = torch.load(path, weights_only=True)
        torch.save(make(tensors, scene), path, _use_new_zipfile_serialization=zipped)

    return damage


def _one(value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, torch.Tensor], Scene], Any]:
    """Another value for one of the tensors."""
    return lambda tensors, scene: {**tensors, WEIGHT: value(tensors[WEIGHT])}


def _itself(tensors: dict[str, Any], scene: Scene) -> Any:
    tensors[WEIGHT] = tensors
    return tensors


OBJECTS: dict[str, Callable[[dict[str, torch.Tensor], Scene], Any]] = {
    "a list of tensors": lambda tensors, scene: list(tensors.values()),
    "a tensor": lambda tensors, scene: tensors[WEIGHT],
    "a text": lambda tensors, scene: "weights",
    "a number": lambda tensors, scene: 7,
    "nothing": lambda tensors, scene: None,
    "an empty object": lambda tensors, scene: {},
    "numbers as names": lambda tensors, scene: dict(enumerate(tensors.values())),
    "texts as tensors": lambda tensors, scene: dict.fromkeys(tensors, "weights"),
    "the tensors in a field": lambda tensors, scene: {"state_dict": tensors},
    "itself": _itself,
    "a tensor that is a list": _one(lambda tensor: tensor.tolist()),
    "a tensor that is null": _one(lambda tensor: None),
    "a tensor of whole numbers": _one(lambda tensor: tensor.to(torch.int64)),
    "a tensor of complex numbers": _one(lambda tensor: tensor.to(torch.complex64)),
    "a tensor of true and false": _one(lambda tensor: tensor > 0),
    "a sparse tensor": _one(lambda tensor: tensor.to_sparse()),
    "a tensor of another shape": _one(lambda tensor: tensor.flatten()),
    "a tensor of no dimension": _one(lambda tensor: tensor[0, 0].clone()),
    "a tensor without values": _one(lambda tensor: torch.empty(320, 32, device="meta")),
    "code": lambda tensors, scene: {**tensors, WEIGHT: RunsCode(scene.evidence)},
    "code alone": lambda tensors, scene: RunsCode(scene.evidence),
    "code under another name": lambda tensors, scene: {**tensors, "x": RunsCode(scene.evidence)},
}

HARMLESS_OBJECTS: dict[str, Callable[[dict[str, torch.Tensor], Scene], Any]] = {
    "tensors that want a gradient": lambda tensors, scene: {
        name: torch.nn.Parameter(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    },
    "a tensor in another order of memory": _one(lambda tensor: tensor.T.contiguous().T),
    "a tensor of one repeated row": _one(lambda tensor: tensor[:1].expand_as(tensor)),
    "a tensor of 64 bits": _one(lambda tensor: tensor.double()),
    "other values beside": lambda tensors, scene: {**tensors, "step": 7, 3: "x", "y": None},
}


def _pickled(make: Callable[[Scene], bytes]) -> Damage:
    return lambda scene: _write(scene, make(scene))


def _write(scene: Scene, content: bytes) -> None:
    (scene.folder / BIN).write_bytes(content)


def _rezipped(change: Callable[[str, bytes], tuple[bytes, int]]) -> Damage:
    """Write the zip file anew, each record with the content and compression of `change`."""

    def damage(scene: Scene) -> None:
        written = io.BytesIO()
        with (
            zipfile.ZipFile(scene.folder / BIN) as old,
            zipfile.ZipFile(written, "w") as new,
        ):
            for name in old.namelist():
                content, kind = change(name, old.read(name))
                new.writestr(name, content, compress_type=kind)
        _write(scene, written.getvalue())

    return damage


def _bomb(name: str, content: bytes) -> tuple[bytes, int]:
    large = b"\0" * 200_000_000 if name.endswith("data.pkl") else content
    return large, zipfile.ZIP_DEFLATED


def _reduced(function: str, *arguments: Any) -> bytes:
    """A pickle in the file format of `torch.save` that calls a function by its name."""
    module, name = function.rsplit(".", 1)
    call = b"\x80\x02c" + f"{module}\n{name}\n".encode()
    body = pickle.dumps(arguments, 2)[2:-1] + b"R."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", call + body)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


FILES: dict[str, Damage] = {
    "empty": replaced(BIN, b""),
    "zeros": replaced(BIN, b"\0" * 1000),
    "a web page": replaced(BIN, b"<!DOCTYPE html><html></html>" * 10),
    "a bare pickle with code": _pickled(lambda scene: pickle.dumps(RunsCode(scene.evidence))),
    "a bare pickle": _pickled(lambda scene: pickle.dumps({"a": [1, 2]})),
    "an empty zip file": replaced(BIN, b"PK\x05\x06" + b"\0" * 18),
    "cut": truncated(BIN),
    "compressed": _rezipped(lambda name, content: (content, zipfile.ZIP_DEFLATED)),
    "compressed 200 MB": _rezipped(_bomb),
    "no pickle": _rezipped(
        lambda name, content: (b"" if name.endswith("data.pkl") else content, zipfile.ZIP_STORED)
    ),
    "no storages": _rezipped(
        lambda name, content: (b"" if "/data/" in name else content, zipfile.ZIP_STORED)
    ),
    "os.mkdir": _pickled(lambda scene: _reduced("os.mkdir", str(scene.evidence))),
    "posix.mkdir": _pickled(lambda scene: _reduced("posix.mkdir", str(scene.evidence))),
    "builtins.exec": _pickled(
        lambda scene: _reduced("builtins.exec", f"import os; os.mkdir({str(scene.evidence)!r})")
    ),
    "a large array": _pickled(lambda scene: _reduced("builtins.bytearray", 10**11)),
    "a large tensor": _pickled(lambda scene: _reduced("torch.FloatTensor", 10**11)),
    "a link": linked(BIN),
}

LEGACY: dict[str, Callable[[dict[str, torch.Tensor], Scene], Any]] = {
    name: OBJECTS[name]
    for name in (
        "a list of tensors",
        "a text",
        "nothing",
        "texts as tensors",
        "a tensor that is a list",
        "a tensor of whole numbers",
        "a tensor of another shape",
        "code",
        "code alone",
        "code under another name",
    )
}


def pickle_cases() -> Iterator[Case]:
    """Cases of one file of `torch.save`, in its present format and in the old one."""

    def case(name: str, damage: Damage, layout: Layout = "bin", loads: bool | None = False) -> Case:
        return Case("pickle", name, damage, layout=layout, loads=loads)

    for name, damage in FILES.items():
        yield case(name, damage)
    for name, make in OBJECTS.items():
        yield case(name, _saved(make))
    for name, make in HARMLESS_OBJECTS.items():
        yield case(name, _saved(make), loads=True)
    for name, make in LEGACY.items():
        yield case(f"old format: {name}", _saved(make, zipped=False), "bin-legacy")
    for name in ("cut", "empty", "zeros"):
        yield case(f"old format: {name}", FILES[name], "bin-legacy")
    for name in ("a tensor of 64 bits", "other values beside"):
        damage = _saved(HARMLESS_OBJECTS[name], zipped=False)
        yield case(f"old format: {name}", damage, "bin-legacy", True)
