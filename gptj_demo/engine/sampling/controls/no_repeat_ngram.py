"""Prevents repeated sequences of a given number of tokens."""

from __future__ import annotations

from functools import partial

from gptj_demo.engine.sampling.control import UsingRows
from gptj_demo.engine.sampling.histories import NoRepeatNgram
from gptj_demo.engine.sampling.sequences import SequenceControl


class NoRepeatNgramSize(SequenceControl):
    """As transformers' NoRepeatNGramLogitsProcessor."""

    name = "no_repeat_ngram_size"
    may_empty = True

    def __init__(self, users: UsingRows) -> None:
        sizes = users.values(self.name)
        super().__init__(
            users,
            [
                (number, row.history(self.name, partial(NoRepeatNgram, size)))
                for number, row, size in zip(users.numbers, users.rows, sizes, strict=True)
            ],
        )
