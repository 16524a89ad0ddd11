"""The engine's view of a tokenizer: the bytes of its tokens, and which of them end a text."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable

from gptj_demo.engine.sampling import Guides


class EngineVocabulary:
    """The engine's view of the tokenizer: the bytes of each id, and the valid ids.

    Ids below `size` can be sampled, except `unused_token_ids`. `bos_token_id` replaces an empty
    prompt; `eos_token_ids` end a text. `special_token_ids` are names, and not text.
    """

    def __init__(
        self,
        table: list[bytes],
        size: int,
        context_length: int,
        *,
        bos_token_id: int,
        eos_token_ids: Iterable[int],
        unused_token_ids: Iterable[int] = (),
        special_token_ids: Iterable[int] = (),
    ) -> None:
        self.table = table
        self.size = size
        self.context_length = context_length
        self.bos_token_id = bos_token_id
        self.eos_token_ids = frozenset(eos_token_ids)
        self.unused_token_ids = frozenset(unused_token_ids)
        self.special_token_ids = frozenset(special_token_ids)
        self._sorted: list[tuple[bytes, int]] | None = None

    def guides(self) -> Guides:
        """The guides of texts that must match something, for these tokens."""
        never = self.unused_token_ids | self.special_token_ids
        return Guides(self.table, self.size, self.eos_token_ids, never)

    def beginning_with(self, prefix: bytes) -> list[int]:
        """The ids whose bytes begin with `prefix`."""
        if self._sorted is None:  # built on first use
            self._sorted = sorted((self.table[i], i) for i in range(self.size))
        begin = bisect.bisect_left(self._sorted, (prefix, -1))
        found = []
        for data, token_id in itertools.islice(self._sorted, begin, None):
            if not data.startswith(prefix):
                break
            if token_id not in self.eos_token_ids and token_id not in self.unused_token_ids:
                found.append(token_id)
        return found
