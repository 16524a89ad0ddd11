"""Splits a prompt into the parts that are left out in turn: sentences or words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, get_args

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.texts import message, quoted

PartKind = Literal["auto", "sentences", "words"]
FEW_WORDS = 24
_FULL_WIDTH_MARKS = "\u3002\uff01\uff1f"  # these end a sentence without a following space
_BOUNDARY = re.compile(rf"[{_FULL_WIDTH_MARKS}]\s*|\s+")
_WORD = re.compile(r"\s*\S+|\s+")
_CLOSING = "\"'\u201d\u2019\u00bb)]}"


def sentences(text: str) -> list[str]:
    """A text split after sentences and lines; the parts joined are the text."""
    parts, start = [], 0
    for match in _BOUNDARY.finditer(text):
        before = text[max(start, match.start() - 4) : match.start()].rstrip(_CLOSING)
        ends = match[0][0] in _FULL_WIDTH_MARKS or "\n" in match[0]
        if ends or before.endswith((".", "!", "?", "…")):
            parts.append(text[start : match.end()])
            start = match.end()
    return [*parts, text[start:]] if start < len(text) else parts


def words(text: str) -> list[str]:
    """A text split before the space before each word; the parts joined are the text."""
    return _WORD.findall(text)


def parts_of(text: str, kind: PartKind, at_most: int) -> list[str]:
    """The parts of a prompt that are left out in turn: sentences or words, none of them empty.

    `auto` uses words if there are few of them or only one sentence. If there would be more than
    `at_most` (1 or more) parts, neighbours are merged.
    """
    parts = sentences(text) if kind != "words" else []
    single = words(text)
    if kind == "words" or (kind == "auto" and (len(parts) < 2 or len(single) <= FEW_WORDS)):
        parts = single
    together = math.ceil(len(parts) / at_most) if parts else 1
    return ["".join(parts[i : i + together]) for i in range(0, len(parts), together)]


def without_each(parts: Sequence[str]) -> list[str]:
    """The joined text without each part in turn."""
    return ["".join((*parts[:i], *parts[i + 1 :])) for i in range(len(parts))]


def read_kind(value: object) -> PartKind:
    """The kind of parts, from untrusted data; raises `RequestRefused`."""
    kinds: tuple[PartKind, ...] = get_args(PartKind)
    for kind in kinds:
        if value == kind:
            return kind
    known = ", ".join(kinds)
    raise RequestRefused("invalid", message("score.kind", known=known, value=quoted(value)))
