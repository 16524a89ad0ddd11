"""The controls that depend on the order of earlier tokens, such as DRY and no_repeat_ngram_size.

Each object follows one row: `add` takes a token, and `changes` lists what is added to the logits of
the next token. Only rows that use such a control have one. The work for a token does not grow with
the length of the text, except for DRY: it needs a few numpy operations over the whole text.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np

Changes = list[tuple[int, float]]  # token id, what is added to its logit

# the longest repetition that is measured, as in DRY's publication: the power must stay finite
_DRY_LONGEST_MATCH = 50


class History(Protocol):
    """One control of one row."""

    def add(self, token_id: int) -> None:
        """Take note of a token of the prompt or the continuation."""
        ...

    def changes(self) -> Changes:
        """The changes to the logits of the next token."""
        ...

    def fork(self) -> History:
        """A copy that takes tokens without changing this one, which may take none meanwhile."""
        ...


class NoRepeatNgram:
    """`no_repeat_ngram_size`, as transformers' NoRepeatNGramLogitsProcessor."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: deque[int] = deque(maxlen=size)
        self._followers: dict[tuple[int, ...], set[int]] = {}
        # those of the histories that this one is forked from: a copy would take time with the text
        self._earlier: tuple[dict[tuple[int, ...], set[int]], ...] = ()

    def add(self, token_id: int) -> None:
        self._last.append(token_id)
        if len(self._last) == self._size:
            *before, last = self._last
            self._followers.setdefault(tuple(before), set()).add(last)

    def fork(self) -> NoRepeatNgram:
        fork = NoRepeatNgram(self._size)
        fork._last.extend(self._last)
        fork._earlier = (self._followers, *self._earlier)
        return fork

    def changes(self) -> Changes:
        before = tuple(self._last)[1:] if len(self._last) == self._size else tuple(self._last)
        if len(before) < self._size - 1:
            return []
        known = (self._followers, *self._earlier)
        followers = set().union(*(tokens.get(before, ()) for tokens in known))
        return [(token_id, -np.inf) for token_id in followers]


class SequenceBias:
    """Biases on the last token of a sequence, if the others come before it.

    As transformers' SequenceBiasLogitsProcessor for sequences of two tokens or more.
    """

    def __init__(self, sequences: Sequence[tuple[tuple[int, ...], float]]) -> None:
        self._by_previous: dict[int, list[tuple[tuple[int, ...], int, float]]] = {}
        longest = 1
        for token_ids, bias in sequences:
            *before, last = token_ids
            self._by_previous.setdefault(before[-1], []).append((tuple(before), last, bias))
            longest = max(longest, len(before))
        self._last: deque[int] = deque(maxlen=longest)

    def add(self, token_id: int) -> None:
        self._last.append(token_id)

    def fork(self) -> SequenceBias:
        fork = copy.copy(self)
        fork._last = self._last.copy()
        return fork

    def changes(self) -> Changes:
        candidates = self._by_previous.get(self._last[-1], ()) if self._last else ()
        if not candidates:
            return []
        so_far = tuple(self._last)
        return [
            (token_id, bias)
            for before, token_id, bias in candidates
            if so_far[-len(before) :] == before
        ]


class DontRepeatYourself:
    """DRY (p-e-w, text-generation-webui 5677): see `SamplingParams.dry_multiplier`."""

    def __init__(
        self, multiplier: float, base: float, allowed_length: int, breakers: frozenset[int]
    ) -> None:
        self._multiplier, self._base, self._allowed_length = multiplier, base, allowed_length
        self._breakers = breakers
        self._tokens = np.empty(256, dtype=np.int64)
        self._count = 0

    def add(self, token_id: int) -> None:
        if self._count == len(self._tokens):
            self._tokens = np.concatenate((self._tokens, np.empty_like(self._tokens)))
        self._tokens[self._count] = token_id
        self._count += 1

    def fork(self) -> DontRepeatYourself:
        fork = copy.copy(self)
        fork._tokens = self._tokens.copy()
        return fork

    def changes(self) -> Changes:
        tokens = self._tokens[: self._count]
        if not self._count or int(tokens[-1]) in self._breakers:
            return []
        # earlier places of the last token, and how many tokens up to there match the text's end
        places = np.flatnonzero(tokens[:-1] == tokens[-1])
        if not len(places):
            return []
        lengths = np.ones(len(places), dtype=np.int64)
        agreeing = np.arange(len(places))
        for length in range(1, min(_DRY_LONGEST_MATCH, self._count)):
            previous = int(tokens[-1 - length])
            before = places[agreeing] - length
            agreeing = agreeing[(before >= 0) & (tokens[before] == previous)]
            if not len(agreeing) or previous in self._breakers:
                break
            lengths[agreeing] += 1
        longest: dict[int, int] = {}
        for token_id, length in zip(tokens[places + 1].tolist(), lengths.tolist(), strict=True):
            if length >= self._allowed_length and token_id not in self._breakers:
                longest[token_id] = max(length, longest.get(token_id, 0))
        return [
            (token_id, -self._multiplier * self._base ** (length - self._allowed_length))
            for token_id, length in longest.items()
        ]
