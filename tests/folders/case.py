"""A case: a checkpoint of a layout, and how its folder is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from tests.engine.checkpoints import Layout


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a case takes place.

    `outside` is a folder with files of another model, which must not be opened; `evidence` is a
    path that code in the model's files would create.
    """

    folder: Path
    outside: Path
    evidence: Path
    random: Random


Damage = Callable[[Scene], None]
Kind = Literal["config", "index", "tokenizer", "safetensors", "pickle"]


@dataclass(frozen=True, slots=True)
class Case:
    """`damage` changes the files of a sound checkpoint in `layout`.

    `loads` says whether the model must load all the same, None where it may.
    """

    kind: Kind
    name: str
    damage: Damage
    layout: Layout = "safetensors"
    tokenizer_layout: Literal["json", "files"] = "json"
    loads: bool | None = False


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Replace the value in a JSON file by the result of `change`."""
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")


def merged(file: str, values: dict[str, Any]) -> Damage:
    """Set fields of the object in a JSON file, which is made if it is missing."""

    def damage(scene: Scene) -> None:
        path = scene.folder / file
        if not path.exists():
            path.write_text("{}", "utf-8")
        change_json(path, lambda found: {**found, **values})

    return damage


def replaced(file: str, content: bytes) -> Damage:
    """Replace a file's content."""
    return lambda scene: write(scene.folder / file, content)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def truncated(file: str) -> Damage:
    """Cut a file at a random place."""

    def damage(scene: Scene) -> None:
        content = (scene.folder / file).read_bytes()
        (scene.folder / file).write_bytes(content[: scene.random.randrange(len(content))])

    return damage


def flipped(file: str, *, within: int | None = None, count: int = 8) -> Damage:
    """Overwrite some bytes of a file, of the first `within` if given, with random ones; in JSON
    files, which must stay text, with printable characters."""
    values = range(32, 127) if file.endswith(".json") else range(256)

    def damage(scene: Scene) -> None:
        content = bytearray((scene.folder / file).read_bytes())
        for _ in range(count):
            content[scene.random.randrange(within or len(content))] = scene.random.choice(values)
        (scene.folder / file).write_bytes(content)

    return damage


def linked(file: str) -> Damage:
    """Replace a file by a link to the one of this name outside of the folder."""

    def damage(scene: Scene) -> None:
        (scene.folder / file).unlink(missing_ok=True)
        (scene.folder / file).symlink_to(scene.outside / file)

    return damage
