"""The filter that is a file of regular expressions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from gptj_demo.client.moderation.verdict import PASSED, Verdict
from gptj_demo.settings import InvalidSettings, read_lines

_MAX_LABEL = 60


class Patterns:
    """Flags texts in which one of the patterns occurs, ignoring case.

    Before the search a text is normalized (Unicode NFKC), invisible characters are removed, and
    each run of white space becomes one space.
    """

    kind = "patterns"

    def __init__(self, path: Path) -> None:
        self._patterns = read_patterns(path)

    def start(self) -> None:
        pass

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        return [self._verdict(plain(text)) for text in texts]

    def stop(self) -> None:
        pass

    def _verdict(self, text: str) -> Verdict:
        for pattern in self._patterns:
            if pattern.search(text):
                return Verdict(True, pattern.pattern[:_MAX_LABEL])
        return PASSED


def read_patterns(path: Path) -> list[re.Pattern[str]]:
    """One pattern a line, without empty lines and comments (#); raises `InvalidSettings`."""
    patterns = []
    for number, line in enumerate(read_lines(path, "filter file"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            pattern = re.compile(line.strip(), re.IGNORECASE)
        except re.error as error:
            raise InvalidSettings(
                f"Line {number} of the filter's file, {path}, is not a regular expression: {error}."
            ) from None
        if pattern.search(""):
            raise InvalidSettings(
                f"Line {number} of the filter's file, {path}, matches the empty text, so it would "
                "flag every sentence."
            )
        patterns.append(pattern)
    if not patterns:
        raise InvalidSettings(f"The filter's file, {path}, has no pattern.")
    return patterns


def plain(text: str) -> str:
    """A text as the patterns see it."""
    text = unicodedata.normalize("NFKC", text)
    return " ".join("".join(c for c in text if unicodedata.category(c) != "Cf").split())
