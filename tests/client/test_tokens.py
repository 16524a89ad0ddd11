"""Admission when the KV cache's tokens are scarce: turns, and what one visitor may hold.

The caches here have 100 tokens for each slot, so a long completion takes several slots.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.shares import ACTIVE_SECONDS, Capacity
from gptj_demo.protocol import Cancel
from tests.client.requests import run as run_scenario
from tests.client.requests import until
from tests.client.scripted import CONTEXT, Bench, finished, started
from tests.client.test_admission import admission, ask, enter, run

# ---- the limit


def test_completions_are_submitted_while_there_are_tokens() -> None:
    one = admission(slots=4, max_tokens=400)
    assert ask(one, 1, tokens=200) == [1]
    assert ask(one, 2, tokens=200) == [2]
    assert ask(one, 3, tokens=200) == []
    assert one.end_completion(1)
    assert one.next_turns() == [3]


def test_the_engine_gets_an_eighth_more_than_it_has_tokens() -> None:
    one = admission(slots=16, max_tokens=1600)
    submitted = [ask(one, request_id, tokens=200) for request_id in range(20)]
    assert sum(map(len, submitted)) == 9


def test_slots_are_the_limit_of_completions_that_reserve_little() -> None:
    one = admission(slots=4, max_tokens=400)
    submitted = [ask(one, request_id, tokens=10) for request_id in range(6)]
    assert sum(map(len, submitted)) == 4


def test_short_completions_use_the_tokens_that_long_ones_leave() -> None:
    one = admission(slots=8, max_tokens=800)
    assert ask(one, 1, tokens=600) == [1]
    submitted = [ask(one, request_id, tokens=20) for request_id in range(2, 12)]
    assert sum(map(len, submitted)) == 8


@given(
    slots=st.integers(1, 20),
    asked=st.lists(
        st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(1, 3), st.integers(1, 100)),
        max_size=40,
    ),
)
def test_only_slots_count_if_each_slot_has_a_whole_context(
    slots: int, asked: list[tuple[str | None, int, int]]
) -> None:
    counts_tokens = admission(slots, max_tokens=100 * slots)
    counts_slots = admission(slots, max_tokens=10**9)
    for request_id, (visitor, completions, tokens) in enumerate(asked):
        turns = [
            ask(one, request_id, visitor, completions, tokens)
            for one in (counts_tokens, counts_slots)
        ]
        assert turns[0] == turns[1]
    assert counts_tokens.moved() == counts_slots.moved()


def test_the_completions_of_a_request_reserve_their_prompt_once() -> None:
    one = admission(slots=4, max_tokens=400)
    assert ask(one, 1, completions=4, tokens=20, shared=300) == [1] * 4
    one.start(1)
    assert one.usage.reserved == 380
    assert [one.end_completion(1) for _ in range(3)] == [False, False, False]
    assert one.usage.reserved == 320
    assert one.end_completion(1)
    assert one.usage.reserved == 0


# ---- no starvation


def test_a_long_request_is_not_overtaken_once_it_is_its_turn() -> None:
    one = admission(slots=4, max_tokens=400)
    for request_id in range(4):
        run(one, request_id, f"visitor {request_id}", tokens=100)
    assert ask(one, 4, "author", tokens=400) == []
    assert ask(one, 5, "person", tokens=50) == []
    one.end_completion(0)
    # request 4 starts when all others have ended; nothing is submitted behind it
    assert one.next_turns() == [4]
    for request_id in (1, 2, 3):
        one.end_completion(request_id)
        assert one.next_turns() == []
    one.start(4)
    one.end_completion(4)
    assert one.next_turns() == [5]


def test_a_long_request_has_a_turn_although_short_ones_keep_coming() -> None:
    one = admission(slots=16, max_tokens=1600)
    submitted = [i for i in range(30) for i in ask(one, i, f"visitor {i}", tokens=50)]
    assert ask(one, 99, "author", tokens=1600) == []
    ends = 0
    while 99 not in submitted:
        one.end_completion(submitted.pop(0))
        ends += 1
        submitted += ask(one, 100 + ends, f"visitor {100 + ends}", tokens=50)
    assert ends <= 30  # the requests that came before it


def test_a_visitors_short_requests_do_not_overtake_the_long_one_before_them() -> None:
    one = admission(slots=8, max_tokens=800)
    assert ask(one, 1, "author", tokens=400) == [1]
    assert ask(one, 2, "author", tokens=600) == []  # worth ten slots; a visitor gets seven
    assert ask(one, 3, "author", tokens=100) == []
    assert ask(one, 4, "person", tokens=100) == [4]  # others need not wait for it
    one.end_completion(1)
    assert one.next_turns() == [2, 3]


# ---- shares


def test_one_visitor_leaves_tokens_for_other_visitors() -> None:
    one = admission(slots=16, max_tokens=1600)
    submitted = [ask(one, request_id, "busy", tokens=300) for request_id in range(10)]
    assert sum(map(len, submitted)) == 4  # worth twelve slots of fourteen
    assert ask(one, 99, "person", tokens=300) == [99]
    assert one.end_completion(0)
    assert one.next_turns() == [4]


def test_a_visitor_without_completions_may_reserve_all_tokens() -> None:
    one = admission(slots=8, max_tokens=800)
    assert ask(one, 1, "author", tokens=800) == [1]
    assert ask(one, 2, "author", tokens=800) == []
    assert one.end_completion(1)
    assert one.next_turns() == [2]


def test_the_process_itself_may_have_all_tokens() -> None:
    one = admission(slots=8, max_tokens=800)
    assert [ask(one, request_id, tokens=400) for request_id in (1, 2)] == [[1], [2]]


def test_turns_go_to_the_visitor_who_holds_the_least() -> None:
    one = admission(slots=16, max_tokens=1600)
    run(one, 0, tokens=1800)
    for request_id in (1, 2, 3):
        assert ask(one, request_id, "long", tokens=500) == []
    for request_id in range(10, 30):
        assert ask(one, request_id, "short", tokens=50) == []
    one.end_completion(0)
    # a long completion counts as five slots, a short one as one
    assert one.next_turns() == [1, *range(10, 15), 2, *range(15, 24)]
    one = admission(slots=16, max_tokens=1600)
    run(one, 1, "long", tokens=900)
    run(one, 2, "short", tokens=50)
    run(one, 3, "short", tokens=50)
    assert ask(one, 4, tokens=1600) == [4]
    assert ask(one, 5, "long", tokens=50) == []
    assert ask(one, 6, "short", tokens=50) == []
    assert one.moved() == [(4, 0), (6, 1), (5, 2)]


def test_an_address_has_half_of_the_tokens_while_another_one_is_active() -> None:
    now = [0.0]
    one = admission(slots=8, max_tokens=800, shares_by_address=True, clock=lambda: now[0])
    run(one, 99, "person", tokens=100)
    submitted = [ask(one, i, f"session {i}@caller", tokens=200) for i in range(6)]
    assert sum(map(len, submitted)) == 2
    now[0] += ACTIVE_SECONDS + 1
    assert one.next_turns() == [2]  # a fourth completion of 200 tokens would exceed 700


# ---- places in the queue


def test_a_slot_without_free_tokens_does_not_count_as_a_place_in_the_queue() -> None:
    one = admission(slots=8, max_tokens=800, max_waiting=0)
    run(one, 1, tokens=600)
    for request_id in (2, 3):  # the tokens that are left are worth two slots
        enter(one, request_id, None)
    with pytest.raises(RequestRefused, match="2 requests are waiting"):
        enter(one, 4, None)
    assert one.usage.running == 1


# ---- releasing tokens


@pytest.mark.parametrize("how", ["end", "leave", "suspend"])
def test_a_request_that_is_over_releases_its_tokens(how: str) -> None:
    one = admission(slots=4, max_tokens=400)
    run(one, 1, tokens=400)
    assert ask(one, 2, tokens=400) == []
    if how == "end":
        assert one.end_completion(1)
    elif how == "leave":
        one.leave(1)
    else:
        assert one.suspend() == [1]
        assert one.usage.reserved == 400  # it keeps its tokens
        one.is_open = True
        assert one.next_turns() == [1]
        assert one.end_completion(1)
    assert one.usage.reserved == 0
    assert one.next_turns() == [2]


def test_an_engine_with_less_memory_gets_fewer_requests() -> None:
    one = admission(slots=4, max_tokens=400)
    for request_id in range(4):
        run(one, request_id, tokens=100)
    one.suspend()
    one.capacity, one.is_open = Capacity(4, 200), True
    assert one.next_turns() == [0, 1]


def test_the_worker_counts_the_tokens_of_prompt_and_completion(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=8, max_tokens=2 * CONTEXT)
        long = [await bench.open(max_new_tokens=CONTEXT) for _ in range(2)]
        await until(lambda: len(bench.backend.submitted) == 2)
        short = await bench.open(max_new_tokens=15)
        longest = await bench.open(max_new_tokens=2 * CONTEXT)
        last = await bench.open(max_new_tokens=15)
        await until(lambda: short.submitted is not None)
        bench.backend.step(*map(started, long))
        await until(lambda: bench.worker.tokens_reserved == 2 * CONTEXT)
        # with eight slots, one more completion is sent ahead
        assert bench.backend.submitted == [one.request_id for one in (*long, short)]
        await short.aclose()
        await until(lambda: bench.backend.submitted[3:] == [longest.request_id])
        await longest.aclose()
        await until(lambda: bench.backend.submitted[4:] == [last.request_id])
        assert bench.backend.sent[-2] == Cancel(longest.request_id)
        bench.backend.step(finished(long[0]))
        await until(lambda: bench.worker.tokens_reserved == CONTEXT)
        bench.backend.stop()
        await until(lambda: bench.backend.lives == 2)
        assert bench.worker.tokens_reserved == CONTEXT
        bench.backend.load(slots=8, max_tokens=2 * CONTEXT)
        await until(lambda: long[1].request_id in bench.backend.submitted[5:])
        bench.backend.step(finished(long[1]), finished(last))
        await until(lambda: bench.worker.tokens_reserved == 0)

    run_scenario(scenario())
