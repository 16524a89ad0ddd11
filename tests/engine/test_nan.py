"""A request whose activations become NaN ends with an error and harms no other."""

from __future__ import annotations

from typing import Any

import pytest

from gptj_demo.protocol import Submit
from tests.engine.bench import DRAWN, NOT_A_NUMBER, A, B, Bench, C, D, request

BROKEN_MESSAGE = "not a number"


def sound_tokens(*requests: Submit) -> dict[int, list[int]]:
    bench = Bench()
    bench.run(*requests)
    return {one.request_id: bench.tokens(one.request_id) for one in requests}


def neighbours() -> list[Submit]:
    return [
        request(1, (A, B, C, D) * 5, **DRAWN),
        request(2, (B,), max_new_tokens=12, ignore_eos=True, repetition_penalty=1.3, logprobs=3),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 1.0, "typical_p": 0.9, "logprobs": 5},
        {"frequency_penalty": 1.0, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
        {"n": 3, "temperature": 1.0},
        {"echo": True, "logprobs": 2},
        {"best_of": 2},
    ],
)
def test_nan_in_a_prompt_ends_only_that_request_with_an_error(
    values: dict[str, Any],
) -> None:
    expected = sound_tokens(*neighbours())
    bench = Bench(broken=True, max_num_seqs=8)
    first, second = neighbours()
    bench.submit(first)
    bench.step()
    bench.run(request(0, (A, NOT_A_NUMBER, B), **values), second)
    for index in range(max(values.get("n", 1), values.get("best_of", 1))):
        end = bench.end(0, index)
        assert end.reason == "error"
        assert BROKEN_MESSAGE in str(end.message)
        assert (end.completion_tokens, end.text) == (0, "")
        assert bench.tokens(0, index) == []
    assert {number: bench.tokens(number) for number in expected} == expected
    assert {bench.end(number).reason for number in expected} == {"length"}


def test_nan_in_a_continuation_keeps_the_tokens_written_before() -> None:
    expected = sound_tokens(*neighbours())
    bench = Bench(broken=True)
    bench.run(request(0, writes=(A, B, NOT_A_NUMBER, D)), *neighbours())
    assert bench.tokens(0) == [A, B, NOT_A_NUMBER]
    assert bench.text(0) == "AB~"
    assert (bench.end(0).reason, bench.end(0).completion_tokens) == ("error", 3)
    assert {number: bench.tokens(number) for number in expected} == expected


def test_nan_in_a_prompt_that_is_only_scored_ends_with_an_error() -> None:
    bench = Bench(broken=True)
    bench.run(request(0, (A, NOT_A_NUMBER, B), echo=True, max_new_tokens=0), *neighbours())
    assert bench.end(0).reason == "error"
    assert BROKEN_MESSAGE in str(bench.end(0).message)
    assert {number: bench.tokens(number) for number in (1, 2)} == sound_tokens(*neighbours())


@pytest.mark.parametrize("ends_how", ["prompt", "continuation", "scored", "cancelled"])
def test_the_slot_of_a_request_with_nan_is_clean_for_the_next(ends_how: str) -> None:
    """The next requests run beside longer rows, so that they look past their own tokens."""
    bench = Bench(broken=True, max_num_seqs=2, prefill_budget=8)
    long = [A, NOT_A_NUMBER] + [B] * 38
    if ends_how == "prompt":
        bench.run(request(0, long), request(9, long))
    elif ends_how == "continuation":
        writes = (A, B, NOT_A_NUMBER)
        bench.run(*(request(n, [C] * 40, writes=writes) for n in (0, 9)))
    elif ends_how == "scored":
        bench.run(*(request(n, long, echo=True, max_new_tokens=0) for n in (0, 9)))
    else:
        bench.submit(request(0, long), request(9, long))
        for _ in range(3):  # in the midst of their prompts
            bench.step()
        bench.cancel(0)
        bench.cancel(9)
    after = [
        request(1, (A, B) * 20, max_new_tokens=20, ignore_eos=True),
        request(2, (B,), max_new_tokens=20, ignore_eos=True),
    ]
    bench.run(*after)
    assert {number: bench.tokens(number) for number in (1, 2)} == sound_tokens(*after)


def test_a_request_cancelled_just_before_nan_leaves_its_slot_clean() -> None:
    bench = Bench(broken=True, max_num_seqs=2)
    bench.submit(
        request(0, [C] * 40, writes=(A, NOT_A_NUMBER, B)),
        request(9, (A, B) * 20, max_new_tokens=20, ignore_eos=True),
    )
    while bench.tokens(0)[-1:] != [NOT_A_NUMBER]:
        bench.step()
    bench.cancel(0)
    after = request(1, (B,), max_new_tokens=20, ignore_eos=True)
    bench.run(after)
    assert {1: bench.tokens(1)} == sound_tokens(after)
    other = request(9, (A, B) * 20, max_new_tokens=20, ignore_eos=True)
    assert {9: bench.tokens(9)} == sound_tokens(other)
