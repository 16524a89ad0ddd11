"""The one exception of loading: a refusal in a sentence for people."""

from __future__ import annotations


class Refusal(Exception):
    """The settings cannot work on this machine; the message is one sentence for people."""


def first_line(error: BaseException) -> str:
    """An error as part of a sentence: its first line that says something.

    CUDA errors say what happened in their first line and give general advice in the others.
    """
    return _pick(error, 0)


def last_line(error: BaseException) -> str:
    """An error as part of a sentence: its last line, which in transformers' errors says what."""
    return _pick(error, -1)


def _pick(error: BaseException, place: int) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[place].removesuffix(".") if lines else type(error).__name__
