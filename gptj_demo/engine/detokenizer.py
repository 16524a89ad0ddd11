"""Token ids to text, token by token, without partial characters or parts of stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Detokenizer:
    """The text of one continuation as it grows.

    Text is held back while it can be the beginning of a stop string, and bytes while their
    character is incomplete. The cost of a token does not grow with the text.
    """

    def __init__(
        self,
        table: Sequence[bytes],
        stop: Sequence[str],
        skip_bytes: int = 0,
        *,
        keeps_stop: bool = False,
    ) -> None:
        """`table` holds the bytes of each id; the first `skip_bytes` bytes are left out.

        With `keeps_stop`, the stop string that ends the text stays in it.
        """
        self._table = table
        self._skip = skip_bytes
        self._stop = tuple(stop)
        self._keeps_stop = keeps_stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped_by: str | None = None

    def add(self, token_id: int) -> str:
        """The text that this token releases; sets `stopped_by` if it completes a stop string."""
        data = self._table[token_id]
        if self._skip:
            data, self._skip = data[self._skip :], max(0, self._skip - len(data))
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """The text still held back; empty after a stop string."""
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
            # the earliest match, and the longest of those with the same start
            at, self.stopped_by = min(found, key=lambda hit: (hit[0], -len(hit[1])))
            self._held = ""
            return pending[: at + len(self.stopped_by) * self._keeps_stop]
        keep = max(_overlap(pending, stop) for stop in self._stop)
        self._held = pending[len(pending) - keep :]
        return pending[: len(pending) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
