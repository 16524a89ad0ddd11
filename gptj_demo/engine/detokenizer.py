"""Token ids to text, a token at a time: never half a character, never a piece of a stop string."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence


def token_bytes(tokenizer_json: str) -> list[bytes]:
    """The bytes each id of a byte-level BPE tokenizer stands for, as `tokenizers` serialises it.

    Byte-level BPE (GPT-2's) writes every byte as a printable character; this undoes it. Added
    tokens such as `<|endoftext|>` stand for their own name.
    """
    description = json.loads(tokenizer_json)
    vocabulary: dict[str, int] = description["model"]["vocab"]
    added = {token["id"]: token["content"] for token in description.get("added_tokens", ())}
    size = max(max(vocabulary.values(), default=-1), max(added, default=-1)) + 1
    byte_of = _byte_of_character()
    table = [b""] * size
    for token, token_id in vocabulary.items():
        if all(character in byte_of for character in token):
            table[token_id] = bytes(byte_of[character] for character in token)
        else:
            table[token_id] = token.encode()
    for token_id, content in added.items():
        table[token_id] = content.encode()
    return table


def _byte_of_character() -> dict[str, int]:
    """Printable Latin-1 bytes stand for themselves, the others for characters from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}


class Detokenizer:
    """The text of one continuation as it grows.

    Text is held back while it may turn out to be the beginning of a stop string, and bytes while
    they are the beginning of a character; the work for a token does not grow with the text.
    """

    def __init__(self, table: Sequence[bytes], stop: Sequence[str]) -> None:
        self._table = table
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped_by: str | None = None

    def add(self, token_id: int) -> str:
        """The text that this token releases; sets `stopped_by` where it completes a stop string."""
        return self._release(self._decoder.decode(self._table[token_id]))

    def finish(self) -> str:
        """What is still held back: the end of the text, unless a stop string ended it."""
        if self.stopped_by is not None:
            return ""
        text = self._release(self._decoder.decode(b"", final=True))
        if self.stopped_by is None:
            text += self._held
        self._held = ""
        return text

    def _release(self, text: str) -> str:
        if not self._stop:
            return text
        pending = self._held + text
        found = [(at, stop) for stop in self._stop if (at := pending.find(stop)) >= 0]
        if found:
            # the earliest; of those that begin at one place the longest, as it says most
            at, self.stopped_by = min(found, key=lambda hit: (hit[0], -len(hit[1])))
            self._held = ""
            return pending[:at]
        keep = max(_overlap(pending, stop) for stop in self._stop)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, shorter than `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
