"""The texts that people read: one catalogue a language in `assets/texts/`, each text under a key.

The code passes a `Message`: the key (its code) and the values of the text's placeholders. It
becomes text where it is shown: `str(message)` is English, for the API, the terminal and logs; the
page translates it into the visitor's language, from the same catalogue (`assets/core/i18n.js`).

A text is a string, or an object of plural forms (CLDR's names) chosen by the value `count`.
`{name}` is replaced by a value; `{{` and `}}` are braces. Whole numbers are grouped (12,345): pass
`str(number)` where that is wrong, as for a seed. A value may itself be a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "texts"
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_SHOWN_CHARACTERS = 40

Text = str | dict[str, str]


@dataclass(frozen=True, slots=True)
class Message:
    """A text that a person will read: its key in the catalogue, and the placeholders' values."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return say(self.code, **self.values)

    def json(self) -> dict[str, Any]:
        """Code and values, as the page and programs get them."""
        values = {
            name: value.json() if isinstance(value, Message) else value
            for name, value in self.values.items()
        }
        return {"code": self.code, "values": values}

    def renamed(self, names: Mapping[str, str]) -> Message:
        """The message with other names for the controls that it names."""
        values = dict(self.values)
        for key, value in self.values.items():
            if isinstance(value, Message):
                values[key] = value.renamed(names)
            elif key == "name":
                values[key] = names.get(value, value)
        return Message(self.code, values)

    def described(self) -> dict[str, Any]:
        """Code, values and the English sentence."""
        return {"message": str(self), **self.json()}


class MessageError(Exception):
    """An error whose message a person sees."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message))
        self.message = message


def message(code: str, /, **values: Any) -> Message:
    """A message with these values."""
    return Message(code, values)


def joined(first: Message, *others: Message) -> Message:
    """Messages one after another."""
    for other in others:
        first = Message("text.joined", {"first": first, "second": other})
    return first


def listed(first: Message, *others: Message) -> Message:
    """Messages as a list within a sentence."""
    for other in others:
        first = Message("text.listed", {"first": first, "second": other})
    return first


def say(code: str, /, **values: Any) -> str:
    """The English text of a key, with its placeholders filled in."""
    text = catalogue("en")[code]
    if not isinstance(text, str):
        text = text["one" if values["count"] == 1 else "other"]

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        return found[0][0] if name is None else _written(values[name])

    return PLACEHOLDER.sub(fill, text)


def quoted(value: object) -> str:
    """A value for a message: shortened, and in quotes if it is a string."""
    try:
        written = json_start(value, _SHOWN_CHARACTERS + 1)
    except (TypeError, ValueError):  # not a JSON value
        written = repr(value)[: _SHOWN_CHARACTERS + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in written)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"


def json_start(value: object, most: int) -> str:
    """The JSON of a value, or its first `most` characters, however large the value is."""
    written = ""
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        written += part[:most]
        if len(written) >= most:
            break
    return written[:most]


@cache
def catalogue(language: str) -> dict[str, Text]:
    """All texts of a language by key."""
    texts: dict[str, Text] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


def languages() -> list[str]:
    """The languages that have a catalogue, by their BCP 47 names."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _written(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)


def first_line(error: BaseException) -> str:
    """An error as part of a sentence: its first line that is not blank.

    CUDA errors say what happened in their first line and give general advice in the others.
    """
    lines = lines_of(error)
    return lines[0].removesuffix(".") if lines else type(error).__name__


def lines_of(error: BaseException) -> list[str]:
    """The lines of an error's text that are not blank, without surrounding whitespace."""
    return [line.strip() for line in str(error).splitlines() if line.strip()]
