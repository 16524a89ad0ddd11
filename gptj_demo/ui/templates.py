"""Templates of prompts: placeholders and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.texts import message, quoted
from gptj_demo.ui.grid_errors import InvalidGrid, refuse_twice

MAX_NAME_CHARACTERS = 40
MAX_PLACES = 1000
"""Placeholders of a template, repetitions included."""
MAX_TEMPLATE_CHARACTERS = 500_000
"""More than the longest prompt has as a template, which doubles its braces."""


def parse_template(template: str) -> tuple[list[str], list[str]]:
    """The texts around the placeholders (one more than there are names), and the names.

    `{{` and `}}` are braces of the text. Raises `InvalidGrid`.
    """
    if (length := len(template)) > MAX_TEMPLATE_CHARACTERS:
        why = message("grid.long_template", characters=length, most=MAX_TEMPLATE_CHARACTERS)
        raise InvalidGrid("prompt", why)
    texts: list[list[str]] = [[]]
    names: list[str] = []
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\}|[{}])", template)
    place = 0
    for part in parts:
        if part in ("{{", "}}"):
            texts[-1].append(part[0])
        elif part in ("{", "}"):
            code = "grid.never_closed" if part == "{" else "grid.never_opened"
            raise InvalidGrid("prompt", message(code, place=place + 1))
        elif part.startswith("{"):
            if len(names) == MAX_PLACES:
                raise InvalidGrid("prompt", message("grid.many_places", most=MAX_PLACES))
            names.append(_placeholder_name(part[1:-1]))
            texts.append([])
        else:
            texts[-1].append(part)
        place += len(part)
    return list(map("".join, texts)), names


def _placeholder_name(written: str) -> str:
    name = written.strip()
    if not name:
        raise InvalidGrid("prompt", message("grid.no_name"))
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidGrid(
            "prompt",
            message("grid.long_name", most=MAX_NAME_CHARACTERS, name=quoted(name)),
        )
    return name


def prompt_length(texts: Sequence[str], places: Sequence[str], values: Mapping[str, str]) -> int:
    """The number of characters of the prompt that a template and its values give."""
    return sum(map(len, texts)) + sum(len(values[name]) for name in places)


def check_length(texts: Sequence[str], places: Sequence[str], values: Mapping[str, str]) -> None:
    """Raise `InvalidGrid` if the template with these values is too long for a prompt."""
    if (length := prompt_length(texts, places, values)) > MAX_PROMPT_CHARACTERS:
        raise InvalidGrid(
            "prompt",
            message("grid.template_too_long", characters=length, most=MAX_PROMPT_CHARACTERS),
        )


def fill(texts: Sequence[str], places: Sequence[str], values: Mapping[str, str]) -> str:
    """The template with each placeholder replaced by its value; raises `InvalidGrid`."""
    check_length(texts, places, values)
    filled = [text + values[name] for text, name in zip(texts, places, strict=False)]
    return "".join(filled) + texts[-1]


def placeholder_values(name: str, lines: Sequence[str]) -> list[str]:
    """The values of a placeholder, one a non-empty line; raises `InvalidGrid`.

    `\\n` stands for a line break.
    """
    field = f"values of {name}"
    values = [line.replace("\\n", "\n") for line in lines if line.strip()]
    if not values:
        raise InvalidGrid(field, message("grid.no_lines", name=f"{{{name}}}"))
    refuse_twice(field, f"{{{name}}}", values)
    return values
