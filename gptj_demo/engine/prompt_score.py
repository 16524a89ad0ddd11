"""Sums up how probable a prompt was."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gptj_demo.protocol import PromptScored, TokenLogprobs

_MOST_EXPONENT = 700.0  # exp of more overflows a float


def score_prompt(
    request_id: int,
    token_ids: tuple[int, ...],
    scores: Sequence[TokenLogprobs],
    table: Sequence[bytes],
) -> PromptScored:
    """The event for a prompt of which the last `len(scores)` tokens are scored.

    `table` holds the bytes of each token id.
    """
    first = len(token_ids) - len(scores)
    total = sum(score.logprob for score in scores)
    size = sum(len(table[token_id]) for token_id in token_ids[first:])
    return PromptScored(
        request_id,
        token_ids,
        (*[None] * first, *scores),
        total,
        math.exp(min(-total / len(scores), _MOST_EXPONENT)) if scores else None,
        -total / math.log(2) / size if size else None,
    )
