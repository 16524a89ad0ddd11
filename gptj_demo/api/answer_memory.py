"""Limits on the log-probabilities of answers: for each answer, and for all that are made at once.

An answer with log-probabilities is kept until its last prompt has ended, and its prompts may wait
for slots. So without a common limit, callers could fill the memory with many requests at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gptj_demo.api.choices import Shape
from gptj_demo.api.errors import ApiError
from gptj_demo.protocol import Visitor

MAX_LOGPROBS = 4_000_000
"""In the answer to one request. With 20 alternatives a token they take 0.6 GB as `logprobs`, and
1.6 GB as `prompt_logprobs`."""
TOTAL_BYTES = 2 * 2**30
SHARE_BYTES = TOTAL_BYTES // 2
"""Of one address."""

TOKEN_BYTES, ALTERNATIVE_BYTES = 300, 150
"""Of `logprobs`, as Python objects and as JSON together."""
RANKED_TOKEN_BYTES, RANKED_ALTERNATIVE_BYTES = 550, 400
"""Of `prompt_logprobs`, which have an object for each alternative."""


def size_of(tokens: int, alternatives: int, shape: Shape, most: int = MAX_LOGPROBS) -> int:
    """The bytes that the log-probabilities of an answer take in memory, as an upper estimate.

    Raises `ApiError` 400 for more than `most`: there is one a token, and one an alternative.
    """
    numbers = tokens * (alternatives + 1)
    if numbers > most:
        raise ApiError(
            400,
            f"This asks for {numbers:,} log-probabilities, and an answer has {most:,} at "
            "most: ask for fewer prompts, completions, tokens or alternatives.",
            code="invalid_value",
            param="logprobs",
        )
    size = 0
    if shape.logprobs is not None:
        size += tokens * (TOKEN_BYTES + alternatives * ALTERNATIVE_BYTES)
    if shape.prompt_logprobs is not None:
        size += tokens * (RANKED_TOKEN_BYTES + alternatives * RANKED_ALTERNATIVE_BYTES)
    return size


class AnswerMemory:
    """Counts the bytes that open answers can take, in all and by address.

    Answers without log-probabilities always pass. So does one answer of any size if there is no
    other.
    """

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    @contextmanager
    def reserve(self, caller: Visitor, size: int) -> Iterator[None]:
        """Count an answer of `size` bytes; raises `ApiError` 429 if it does not fit now."""
        address = caller.address
        if size and not self._has_room(address, size):
            raise ApiError(
                429,
                "The server is making too many large answers with log-probabilities. Send the "
                "request again in a moment, or ask for fewer prompts, completions, tokens or "
                "alternatives.",
                code="too_many_logprobs",
            )
        self._held[address] += size
        try:
            yield
        finally:
            self._held[address] -= size
            if not self._held[address]:
                del self._held[address]

    def _has_room(self, address: str, size: int) -> bool:
        total, own = self._held.total(), self._held[address]
        return not total or (total + size <= TOTAL_BYTES and (not own or own + size <= SHARE_BYTES))
