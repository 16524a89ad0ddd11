"""The one exception of loading: a refusal in a sentence for people."""

from __future__ import annotations

from gptj_demo.texts import lines_of


class Refusal(Exception):
    """The settings cannot work on this machine; the message is one sentence for people."""


def last_line(error: BaseException) -> str:
    """An error as part of a sentence: its last line, which in transformers' errors says what.

    The errors of torch say it in their first line: see `texts.first_line`.
    """
    lines = lines_of(error)
    return lines[-1].removesuffix(".") if lines else type(error).__name__
