"""Reads prompts from, and writes text to, terminals and pipes of any encoding."""

from __future__ import annotations

import sys
import unicodedata
from typing import BinaryIO, TextIO


class UnreadableText(ValueError):
    """The prompt is not Unicode text; the message says where and what to do."""


class UnwritableText(Exception):
    """Standard output cannot be written, on a full disk for example; the message says why."""


def read_prompt(argument: str, stdin: BinaryIO) -> str:
    """The prompt: `argument`, or all of `stdin` (UTF-8) if it is `-`.

    A byte order mark and one final line break are removed, and line breaks are `\\n`.
    Raises `UnreadableText`.
    """
    if argument != "-":
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UnreadableText(
                "The prompt has bytes that are not text in this terminal's encoding."
            )
        return argument
    try:
        text = stdin.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UnreadableText(
            f"Standard input is not UTF-8 text: byte {error.start:,} is 0x{byte:02x}. Convert it, "
            "for example with iconv."
        ) from None
    return text.replace("\r\n", "\n").removesuffix("\n")


def show_any_character(*streams: TextIO | None) -> None:
    """Make streams write escapes such as `\\u2019` for characters that their encoding lacks."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def safe_for(stream: TextIO, text: str) -> str:
    """Generated text as it may be written to a stream.

    A terminal obeys control characters, so all but line breaks and tabs are written as escapes
    there. A pipe or a file gets the text as it is.
    """
    return escape_controls(text, keep="\n\t") if stream.isatty() else text


def escape_controls(text: str, keep: str = "") -> str:
    """The text with its control characters, except those in `keep`, as escapes such as `\\x1b`."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) == "Cc" and character not in keep
        else character
        for character in text
    )


def print_text(text: str, *, end: str = "") -> None:
    """Write generated text to standard output at once.

    Raises `BrokenPipeError` if its reader is gone, `UnwritableText` if it cannot be written.
    """
    try:
        print(safe_for(sys.stdout, text), end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableText(
            f"The text cannot be written to standard output: {error.strerror}."
        ) from None
