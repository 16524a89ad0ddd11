"""Keeps the scores of recent texts: if a text begins like one of them, only its rest is read.

Independent of torch and of the KV cache.
"""

from __future__ import annotations

from collections import OrderedDict

from gptj_demo.protocol import PromptScored, Submit, TokenLogprobs

MAX_TEXTS = 32
MAX_NUMBERS = 100_000
"""Log-probabilities in all kept scores: each takes up to 150 bytes, so 15 MB in all."""

Key = tuple[tuple[int, ...], int]


class ScoredTexts:
    """The scores of the last texts, by their tokens and the number of alternatives.

    The scores of a text begin with its second token.
    """

    def __init__(self, max_numbers: int = MAX_NUMBERS) -> None:
        self._max_numbers = max_numbers
        self._numbers = 0
        self._texts: OrderedDict[Key, list[TokenLogprobs]] = OrderedDict()

    def known(self, request: Submit) -> list[TokenLogprobs]:
        """The scores of the prompt's first tokens that need not be computed again."""
        if first_scored(request) != 1:
            return []
        known = self.find(request.prompt_token_ids, request.params.logprobs or 0)
        # at least the last token is scored: its logits show whether there is NaN before it
        return known[: max(0, len(request.prompt_token_ids) - 2)]

    def note(self, scored: PromptScored, alternatives: int) -> None:
        """Keep the scores of a prompt, if all of its tokens have some."""
        scores = [score for score in scored.logprobs if score is not None]
        if len(scores) == len(scored.token_ids) - 1:
            self.keep(scored.token_ids, alternatives, scores)

    def find(self, token_ids: tuple[int, ...], alternatives: int) -> list[TokenLogprobs]:
        """The scores of the longest known prefix of a text; can be empty."""
        best: Key | None = None
        longest = 1
        for key in self._texts:
            known, count = key
            if count == alternatives and (length := _common_length(known, token_ids)) > longest:
                best, longest = key, length
        if best is None:
            return []
        self._texts.move_to_end(best)
        return self._texts[best][: longest - 1]

    def keep(
        self, token_ids: tuple[int, ...], alternatives: int, scores: list[TokenLogprobs]
    ) -> None:
        """Keep the scores of a whole text, and drop old ones where there are too many."""
        numbers = len(scores) * (alternatives + 1)
        if numbers > self._max_numbers:
            return
        for key in list(self._texts):
            known, count = key
            if count == alternatives and token_ids[: len(known)] == known:
                self._drop(key)
        self._texts[token_ids, alternatives] = scores
        self._numbers += numbers
        while self._numbers > self._max_numbers or len(self._texts) > MAX_TEXTS:
            self._drop(next(iter(self._texts)))

    def _drop(self, key: Key) -> None:
        self._numbers -= len(self._texts.pop(key)) * (key[1] + 1)


def first_scored(request: Submit) -> int:
    """The position of the first prompt token whose probability is still wanted, 0 if none is."""
    if not request.params.echo or (request.resumption is not None and request.resumption.is_scored):
        return 0
    count = request.scored_tokens
    return 1 if count is None else max(1, len(request.prompt_token_ids) - count)


def _common_length(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two texts begin with in common; compares slices, which is fast."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
