"""The exception of loading: a refusal with a message for people."""

from __future__ import annotations

from gptj_demo.texts import lines_of, quoted

MOST_CHARACTERS = 1000
"""The longest refusal; a quotation from a file could be as long as the file."""

_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    tuple: "a list",
    dict: "an object",
    type(None): "null",
}


class Refusal(Exception):
    """The settings cannot work on this machine; the message is one sentence for people.

    It is one line without control characters, whatever it quotes.
    """

    def __init__(self, why: str) -> None:
        line = " ".join(why.split())
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        if len(shown) > MOST_CHARACTERS:
            shown = shown[: MOST_CHARACTERS - 2] + "…."
        super().__init__(shown)


def last_line(error: BaseException) -> str:
    """The last line of an error, which is the message in transformers' errors.

    In torch's errors it is the first line: see `texts.first_line`.
    """
    lines = lines_of(error)
    return lines[-1].removesuffix(".") if lines else type(error).__name__


def kind_of(value: object) -> str:
    """What kind of value a file holds, in words."""
    return _KINDS.get(type(value), "another kind of object")


def shown(value: object) -> str:
    """A value of a file as a part of a sentence: short, a list or an object by its kind."""
    return kind_of(value) if isinstance(value, list | tuple | dict) else quoted(value)
