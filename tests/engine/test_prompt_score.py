"""The sums of a prompt's probabilities."""

from __future__ import annotations

import math

import pytest

from gptj_demo.engine.prompt_score import score_prompt
from gptj_demo.protocol import TokenLogprobs

TABLE = [b"a", b"bcd", b"e"]


def scores(*logprobs: float) -> list[TokenLogprobs]:
    return [TokenLogprobs(logprob, None, 1, ()) for logprob in logprobs]


def test_the_scored_tokens_are_the_last_ones() -> None:
    given = scores(-1.0, -3.0)
    scored = score_prompt(7, (1, 0, 1, 2), given, TABLE)
    assert (scored.request_id, scored.token_ids) == (7, (1, 0, 1, 2))
    assert scored.logprobs == (None, None, *given)
    assert scored.sum_logprob == -4.0
    assert scored.perplexity == pytest.approx(math.exp(2.0))
    assert scored.bits_per_byte == pytest.approx(4.0 / math.log(2) / 4)  # "bcde"


def test_nothing_is_computed_over_no_tokens() -> None:
    scored = score_prompt(7, (1,), [], TABLE)
    assert scored.logprobs == (None,)
    assert (scored.sum_logprob, scored.perplexity, scored.bits_per_byte) == (0.0, None, None)


def test_the_perplexity_of_an_impossible_text_is_a_number() -> None:
    scored = score_prompt(7, (1, 0), scores(-9999.0), TABLE)
    assert scored.perplexity == math.exp(700.0)
