"""Finds the end of the first sentence in a text that still grows."""

from __future__ import annotations

import re
from typing import NamedTuple

_CLOSING = "\"'\u201d\u2019\u00bb\u300d\u300f)\\]}"
_END = re.compile(
    rf"[.!?\u2026\u061f\u06d4]+[{_CLOSING}]*(?=\s)"  # known to be an end once a space follows
    rf"|[\u3002\uff01\uff1f]+[{_CLOSING}]*"  # full-width marks need no space
    r"|\n[^\S\n]*(?=\n)"  # an empty line; a single line end can be within a sentence
)
_LAST_WORD = re.compile(r"[^\W\d_]+(?:\.[^\W\d_]+)*\Z")
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|st|sr|jr|rev|gen|col|capt|lt|vs|cf|no|vol|fig|pp|ed|dept|inc|ltd"
    r"|e\.g|i\.e|a\.m|p\.m|u\.s|u\.k",
    re.IGNORECASE,
)


class End(NamedTuple):
    """Where a sentence ends: after its last mark, and after the space that follows so far."""

    mark: int
    space: int


def first_end(text: str) -> End | None:
    """The end of the first sentence, None if none has certainly ended."""
    for match in _END.finditer(text):
        if match[0] == "." and _is_abbreviation(text[: match.start()]):
            continue
        if not text[: match.end()].strip():
            continue  # only space so far: it belongs to the next sentence
        rest = text[match.end() :]
        return End(match.end(), len(text) - len(rest.lstrip()))
    return None


def last_part(text: str) -> str:
    """The text after the last complete sentence; empty if the text ends with one."""
    while (end := first_end(text)) is not None:
        text = text[end.space :]
    # an end at the end of the text has no space after it yet
    return "" if first_end(text + " ") is not None else text


def _is_abbreviation(before: str) -> bool:
    word = _LAST_WORD.search(before[-12:])
    if word is None:
        return False
    is_initial = len(word[0]) == 1 and word[0].isupper()
    return is_initial or _ABBREVIATION.fullmatch(word[0]) is not None
