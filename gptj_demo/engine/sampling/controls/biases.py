"""Adds biases to the logits of given tokens, or of given sequences of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch

from gptj_demo.engine.sampling.control import UsingRows
from gptj_demo.engine.sampling.histories import SequenceBias
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.sequences import SequenceControl, add_to, places_of

Biases = Sequence[tuple[tuple[int, ...], float]]


class LogitBias(SequenceControl):
    """Adds a number to the logit of a token, as OpenAI's `logit_bias` does.

    For a sequence of tokens, it is added to the last token if the others come before it, as
    transformers' SequenceBiasLogitsProcessor does.
    """

    name = "logit_bias"

    def __init__(self, users: UsingRows) -> None:
        histories, single = [], []
        for number, row in zip(users.numbers, users.rows, strict=True):
            biases = self.biases(row)
            single += [(number, ids[0], bias) for ids, bias in biases if len(ids) == 1]
            if several := [(ids, bias) for ids, bias in biases if len(ids) > 1]:
                make = partial(SequenceBias, several)
                histories.append((number, row.history(self.name, make)))
        super().__init__(users, histories)
        self._single = places_of(single, users.device) if single else None

    @classmethod
    def uses(cls, row: RowSampler) -> bool:
        return bool(cls.biases(row))

    @classmethod
    def biases(cls, row: RowSampler) -> Biases:
        """Sequences of tokens and their biases."""
        return row.request.logit_bias

    def apply(self, logits: torch.Tensor) -> None:
        if self._single is not None:
            add_to(logits, self._single)
        super().apply(logits)


class BadWords(LogitBias):
    """As transformers' NoBadWordsLogitsProcessor."""

    name = "bad_words"
    may_empty = True

    @classmethod
    def biases(cls, row: RowSampler) -> Biases:
        return [(token_ids, -math.inf) for token_ids in row.request.bad_words]
