"""Text that the model reads besides the visitor's: a memory before all of it, a note near its end.

A window that slides leaves out the beginning of the text, never the memory.
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
"""Characters of memory and note, and how many lines above the end the note can stand."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is read besides a text. The note stands before the last `lines` lines of the text."""

    text: str = ""
    note: str = ""
    lines: int = USUAL_LINES

    @classmethod
    def read(cls, given: Any) -> Memory:
        """A memory from untrusted data; what it cannot hold is left out."""
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

    `dropped` of the tokens of text and note were left out; they end at `end`, a position in the
    text in characters.
    """

    token_ids: tuple[int, ...]
    dropped: int
    end: int


async def remember(
    memory: Memory, text: str, params: SamplingParams, ready: Ready, *, leaves_out: bool
) -> Remembered:
    """The tokens that are read for a text; raises `RequestRefused`.

    If it `leaves_out` the beginning of a text that is too long, that of the text goes, not the
    memory, which can take up to half of what is read.
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
