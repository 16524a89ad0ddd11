"""What completions reserve of the KV cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.pages import PAGE_TOKENS, Reservation, in_pages, page_count, reserved_tokens


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (16, 1), (17, 2), (2048, 128)])
def test_a_page_holds_sixteen_tokens(tokens: int, pages: int) -> None:
    assert page_count(tokens) == pages
    assert in_pages(tokens) == pages * 16


@pytest.mark.parametrize(
    ("prompt", "new", "reserved"),
    [
        (1, 1, 16),
        (10, 7, 32),  # whole pages
        (100, 0, 112),  # a prompt that is only scored
        (2000, 120, 2048),  # no more than the context
        (2048, 1, 2048),
    ],
)
def test_a_completion_reserves_whole_pages_for_its_longest_text(
    prompt: int, new: int, reserved: int
) -> None:
    assert reserved_tokens(prompt, new, context_length=2048) == reserved


def test_the_completions_of_a_request_share_the_pages_that_their_prompt_fills() -> None:
    request = Reservation.of(prompt_tokens=100, max_new_tokens=30, context_length=2048)
    assert request == (96, 48)
    assert [request.tokens(count) for count in range(4)] == [0, 144, 192, 240]


def test_each_completion_reads_the_last_token_of_the_prompt_itself() -> None:
    assert Reservation.of(96, 30, 2048) == (80, 48)
    assert Reservation.of(97, 30, 2048) == (96, 32)


@given(prompt=st.integers(1, 100), new=st.integers(0, 200), context=st.integers(100, 130))
def test_a_single_completion_reserves_as_many_tokens_as_a_request_of_one(
    prompt: int, new: int, context: int
) -> None:
    request = Reservation.of(prompt, new, context)
    assert request.tokens(1) == reserved_tokens(prompt, new, context)
    assert request.shared % PAGE_TOKENS == request.own % PAGE_TOKENS == 0
    assert request.own > 0
