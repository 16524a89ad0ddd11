"""Reads files of a checkpoint's folder; refuses too large ones and links out of the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gptj_demo.engine.load.errors import Refusal, kind_of, last_line

MOST_BYTES = 32_000_000
"""The size limit of a file that is read whole; GPT-J's largest, tokenizer.json, has 1.4 MB."""

POINTS = "it is a pointer of Git LFS instead of the file: run git lfs pull in its folder"
_POINTER = b"version https://git-lfs"


def file_names(folder: Path) -> set[str]:
    """The names of the files in a folder."""
    return {path.name for path in folder.iterdir() if path.is_file()}


def path_in(model: str, folder: Path, name: str) -> Path:
    """The path of a file of a checkpoint; raises `Refusal` if it is a link that leads out of it.

    The folders of the hub's cache hold links into the folder `blobs` of their repository.
    """
    root = folder.resolve()
    if root.parent.name == "snapshots":
        root = root.parent.parent
    if not (folder / name).resolve().is_relative_to(root):
        raise Refusal(
            f"The {name} of {model} is a link to a file outside of the folder, which is not read: "
            "copy the file into the folder."
        )
    return folder / name


def read_whole(model: str, folder: Path, name: str) -> bytes:
    """The content of a file; raises `Refusal` if it is too large or cannot be read."""
    path = path_in(model, folder, name)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise unreadable(model, name, error.strerror or last_line(error)) from None
    if content.startswith(_POINTER):
        raise unreadable(model, name, POINTS)
    if len(content) > MOST_BYTES:
        raise unreadable(model, name, f"it has more than {MOST_BYTES // 1_000_000} MB")
    return content


def is_pointer(path: Path) -> bool:
    """Whether a file only names another one, as in a folder that was cloned without Git LFS."""
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def read_object(model: str, folder: Path, name: str) -> dict[str, Any]:
    """The object that a JSON file holds; raises `Refusal`."""
    content = read_whole(model, folder, name)
    try:
        value = json.loads(content.decode("utf-8"))
    except RecursionError:
        raise unreadable(model, name, "it is nested too deeply") from None
    except UnicodeDecodeError:
        raise unreadable(model, name, "it is not text in UTF-8") from None
    except json.JSONDecodeError as error:
        raise unreadable(model, name, f"it is not JSON ({last_line(error)})") from None
    except ValueError:  # of Python's limit for whole numbers
        raise unreadable(model, name, "it holds a number of thousands of digits") from None
    if not isinstance(value, dict):
        raise unreadable(model, name, f"it holds {kind_of(value)}, not an object")
    return value


def unreadable(model: str, name: str, why: str) -> Refusal:
    """The refusal of a file of a checkpoint."""
    return Refusal(f"The {name} of {model} cannot be read: {why}.")


def wrong_value(model: str, name: str, why: str) -> Refusal:
    """The refusal of a readable file with an invalid value."""
    return Refusal(f"The {name} of {model} has a wrong value: {why}.")
