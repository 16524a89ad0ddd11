"""The exception of loading: a refusal with a message for people."""

from __future__ import annotations

from gptj_demo.texts import lines_of


class Refusal(Exception):
    """The settings cannot work on this machine; the message is one sentence for people."""


def last_line(error: BaseException) -> str:
    """The last line of an error, which is the message in transformers' errors.

    In torch's errors it is the first line: see `texts.first_line`.
    """
    lines = lines_of(error)
    return lines[-1].removesuffix(".") if lines else type(error).__name__
