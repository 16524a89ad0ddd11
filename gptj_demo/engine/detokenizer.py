"""Token ids to text, a token at a time: never half a character, never a piece of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """The text of one continuation as it grows.

    Text is held back while it may turn out to be the beginning of a stop string, and bytes while
    they are the beginning of a character; the work for a token does not grow with the text.
    """

    def __init__(self, table: Sequence[bytes], stop: Sequence[str], skip_bytes: int = 0) -> None:
        """`table` holds the bytes of each id; the first `skip_bytes` bytes are left out."""
        self._table = table
        self._skip = skip_bytes
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped_by: str | None = None

    def add(self, token_id: int) -> str:
        """The text that this token releases; sets `stopped_by` where it completes a stop string."""
        data = self._table[token_id]
        if self._skip:
            data, self._skip = data[self._skip :], max(0, self._skip - len(data))
        return self._release(self._decoder.decode(data))

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
