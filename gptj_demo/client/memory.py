"""Text that the model reads besides the visitor's: a memory before it and a note near its end.

A sliding window drops the beginning of the text, never the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gptj_demo.client.prompt import Ready, encode, longest_read
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message

MAX_MEMORY = 4000
MAX_NOTE = 1000
MAX_LINES = 20
USUAL_LINES = 3
"""Limits of memory and note in characters, and of the note's place in lines from the end."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory and a note. The note is read before the last `lines` lines of the text."""

    text: str = ""
    note: str = ""
    lines: int = USUAL_LINES

    @classmethod
    def read(cls, given: Any) -> Memory:
        """A memory from untrusted data; values that are invalid or too long are dropped or cut."""
        given = given if isinstance(given, dict) else {}
        text, note, lines = given.get("text"), given.get("note"), given.get("lines")
        is_count = isinstance(lines, int) and not isinstance(lines, bool)
        return cls(
            text[:MAX_MEMORY] if isinstance(text, str) else "",
            note[:MAX_NOTE] if isinstance(note, str) else "",
            min(max(lines, 1), MAX_LINES) if is_count else USUAL_LINES,
        )

    @property
    def is_empty(self) -> bool:
        return not (self.text.strip() or self.note.strip())

    @property
    def before(self) -> str:
        """What is read before the text."""
        return f"{self.text.rstrip()}\n" if self.text.strip() else ""

    def place(self, text: str) -> int:
        """The position in a text before which the note is read, in characters."""
        lines = text.split("\n")
        return sum(len(line) + 1 for line in lines[: max(0, len(lines) - self.lines)])

    def with_note(self, text: str) -> str:
        """The text with the note."""
        if not self.note.strip():
            return text
        at = self.place(text)
        return f"{text[:at]}{self.note.strip()}\n{text[at:]}"


@dataclass(frozen=True, slots=True)
class Remembered:
    """A prompt with its memory as token ids.

    `dropped` tokens of text and note were left out. `end` is where they end: a position in the
    text, in characters.
    """

    token_ids: tuple[int, ...]
    dropped: int
    end: int


async def remember(
    memory: Memory, text: str, params: SamplingParams, ready: Ready, *, leaves_out: bool
) -> Remembered:
    """The tokens that are read for a text; raises `RequestRefused`.

    With `leaves_out`, the beginning of a text that is too long is dropped, but not the memory,
    which can take up to half of the tokens that are read.
    """
    before = tuple(await encode(memory.before, ready)) if memory.before else ()
    body = memory.with_note(text)
    ids = tuple(await encode(body, ready, begins=not before))
    most = longest_read(params.max_new_tokens, ready.context_length)
    if not leaves_out or len(before) + len(ids) <= most:
        return Remembered(before + ids, 0, 0)
    if len(before) > most // 2:
        sizes = {"tokens": len(before), "most": most // 2}
        raise RequestRefused("too_long", message("remember.too_long", **sizes))
    dropped = len(before) + len(ids) - most
    size = ready.vocabulary.tokens(list(ids), body)[dropped - 1].end
    end = len(body.encode()[:size].decode(errors="replace"))
    if memory.note.strip():
        at = memory.place(text)
        end = end if end <= at else max(at, end - len(memory.note.strip()) - 1)
    return Remembered(before + ids[dropped:], dropped, end)
