"""Drafts by prompt lookup: the tokens that followed an earlier occurrence of the last tokens.

It searches the text itself and earlier texts of the same visitor: other branches, and texts that
Retry replaced. It runs no model, so it costs almost nothing. It pays in lists, tables, code and
loops, and at low temperatures (Saxena 2023, "Prompt Lookup Decoding").
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from collections.abc import Sequence as Rows

from gptj_demo.engine.sampling import RowSampler
from gptj_demo.engine.scheduler import Sequence
from gptj_demo.engine.speculation import Drafter

_MATCHED = 3
"""How many of the last tokens must occur earlier."""
_MOST_MATCHED = 16
"""The most tokens by which earlier occurrences are compared."""
_KEPT_TEXTS, _KEPT_IN_ALL = 8, 64
"""How many ended texts are kept for each visitor, and for all visitors."""

_FIRST_RATES = (0.15, 0.4, 0.6, 0.75, 0.85)
"""The first estimates of how often a prediction is right, by the number of right predictions before
it. The last one is for all larger numbers."""
_LEARNING_RATE = 0.15


class PromptLookup(Drafter):
    """Finds drafts in the prompt and the continuation of each sequence, and in earlier ones.

    Texts of one visitor are never used for those of another visitor.
    """

    name = "lookup"

    def __init__(self) -> None:
        self._texts: dict[Sequence, Text] = {}
        # by visitor's name; the visitor whose text ended last comes last
        self._ended: OrderedDict[str, deque[Text]] = OrderedDict()

    def chance(self, row: Sequence, sampler: RowSampler) -> float:
        return self._text(row).chance

    def draft(
        self, rows: Rows[Sequence], samplers: Rows[RowSampler], most: Rows[int], least: float
    ) -> list[list[int]]:
        return [self._text(row).draft(count, least) for row, count in zip(rows, most, strict=True)]

    def forget(self, row: Sequence) -> None:
        if row not in self._texts:
            return
        text = self._text(row)
        del self._texts[row]
        if row.visitor is None:
            return
        ended = self._ended.setdefault(row.visitor, deque(maxlen=_KEPT_TEXTS))
        text.others = ()
        ended.append(text)
        self._ended.move_to_end(row.visitor)
        while sum(map(len, self._ended.values())) > _KEPT_IN_ALL:
            visitor, oldest = next(iter(self._ended.items()))
            oldest.popleft()
            if not oldest:
                del self._ended[visitor]

    def _text(self, row: Sequence) -> Text:
        """The tokens of a row, up to date."""
        text = self._texts.get(row)
        if text is None:
            others = () if row.visitor is None else self._ended.get(row.visitor, ())
            text = self._texts[row] = Text([*others][::-1])
            for token_id in row.prompt_token_ids:
                text.add(token_id)
        known = text.length - row.prompt_length
        for token_id in row.generated_token_ids[known:]:
            text.add(token_id)
        return text


class Text:
    """The tokens of one sequence, and predictions of the next ones.

    Each new token is compared with the predicted one, whether it was drafted or not, so learning
    how often predictions are right costs nothing.
    """

    def __init__(self, others: Iterable[Text] = ()) -> None:
        """`others` are texts that may have the same runs of tokens, newest first."""
        self.others = others
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # where the last occurrence of a run ends
        self._read = self._tokens  # the text that has the predicted token
        self._source = -1  # its place there; -1 if no token is predicted
        self._right = 0  # predictions in a row that were right
        self._rates = list(_FIRST_RATES)

    @property
    def length(self) -> int:
        return len(self._tokens)

    @property
    def chance(self) -> float:
        """How likely the predicted token is the next one; 0 where none is predicted."""
        if self._source < 0:
            return 0.0
        return self._rates[min(self._right, len(self._rates) - 1)]

    def add(self, token_id: int) -> None:
        """Take note of the next token."""
        tokens = self._tokens
        if self._source >= 0:
            is_right = self._read[self._source] == token_id
            level = min(self._right, len(self._rates) - 1)
            self._rates[level] += _LEARNING_RATE * (is_right - self._rates[level])
            self._right += 1
            self._source = self._source + 1 if is_right else -1
        tokens.append(token_id)
        if self._read is not tokens and self._source >= len(self._read):
            self._source = -1
        run = tuple(tokens[-_MATCHED:])
        if self._source < 0:
            self._find(run)
        self._ends[run] = len(tokens)

    def _find(self, run: tuple[int, ...]) -> None:
        """Predict the token that followed the longest earlier match of the last tokens."""
        most = 0
        for text in (self, *self.others):
            place = text._ends.get(run, len(text._tokens))
            if place == len(text._tokens):  # nothing follows
                continue
            agreeing = self._agreeing(text._tokens, place)
            if agreeing > most:
                most = agreeing
                self._read, self._source = text._tokens, place
                self._right = max(0, agreeing - _MATCHED)

    def _agreeing(self, tokens: list[int], place: int) -> int:
        """How many of the last tokens equal the tokens before `place` in `tokens`."""
        agreeing, most = 0, min(_MOST_MATCHED, place, len(self._tokens))
        while agreeing < most and tokens[place - 1 - agreeing] == self._tokens[-1 - agreeing]:
            agreeing += 1
        return agreeing

    def draft(self, most: int, least: float) -> list[int]:
        """At most `most` next tokens.

        The chance that a token and all before it are right is at least `least`.
        """
        drafted: list[int] = []
        if self._source < 0:
            return drafted
        chance, level, tokens = 1.0, self._right, self._read
        for place in range(self._source, self._source + most):
            chance *= self._rates[min(level, len(self._rates) - 1)]
            beyond = place - len(tokens)
            if chance < least or (beyond >= 0 and tokens is not self._tokens):
                break
            level += 1
            # past the end of the text, the draft continues with its own tokens
            drafted.append(tokens[place] if beyond < 0 else drafted[beyond])
        return drafted
