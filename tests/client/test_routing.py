"""Which engine a request goes to."""

from __future__ import annotations

from typing import Any

import pytest

from gptj_demo.client.backends import routing
from gptj_demo.client.backends.routing import BLOCK, KEPT, Prefixes, Router
from gptj_demo.protocol import (
    Expansion,
    Finished,
    Resumption,
    Submit,
    TokenEvent,
    Visitor,
    Written,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message

CONTEXT = 2048
ANNA, BERT = Visitor("anna", "192.0.2.1"), Visitor("bert", "192.0.2.2")


def submit(request_id: int, prompt: range = range(4), **params: Any) -> Submit:
    return Submit(request_id, tuple(prompt), SamplingParams(**params), seed=1)


def finished(request_id: int, index: int = 0) -> Finished:
    return Finished(request_id, "length", message("end.model"), "", 1, 1, 1, index)


def router(*slots: int) -> Router:
    made = Router()
    for number, count in enumerate(slots):
        made.add(number, count, count * CONTEXT, CONTEXT)
    return made


def test_requests_spread_over_the_least_busy_engines() -> None:
    engines = router(4, 4, 8)
    placed = [engines.place(submit(i), None) for i in range(16)]
    assert [placed.count(number) for number in range(3)] == [4, 4, 8]
    assert engines.slots == engines.load == 16


def test_a_full_engine_gets_nothing_while_another_has_a_free_slot() -> None:
    engines = router(2, 2)
    long = range(10 * BLOCK)
    assert engines.place(submit(1, long, n=2), ANNA) == 0
    assert engines.place(submit(2, long), ANNA) == 1
    assert engines.place(submit(3, long), ANNA) == 1
    # without a free slot anywhere, the least overloaded one
    assert [engines.place(submit(i, long), ANNA) for i in (4, 5, 6)] == [1, 0, 0]


def test_an_engine_without_the_tokens_gets_nothing_while_another_has_them() -> None:
    engines = Router()
    for number in (0, 1):
        engines.add(number, 8, 2 * CONTEXT, CONTEXT)
    long = range(10 * BLOCK)
    assert engines.place(submit(1, long, max_new_tokens=CONTEXT), ANNA) == 0
    assert engines.place(submit(2, long, max_new_tokens=100), ANNA) == 0
    assert engines.place(submit(3, long, max_new_tokens=CONTEXT), ANNA) == 1
    assert engines.place(submit(4, long, max_new_tokens=CONTEXT), ANNA) == 1
    assert engines.place(submit(5, long, max_new_tokens=16), ANNA) == 0
    # if no engine has enough free tokens, the least loaded one
    assert engines.place(submit(6, long, max_new_tokens=CONTEXT), ANNA) == 0
    engines.note(1, finished(3))
    assert engines.place(submit(7, long, max_new_tokens=CONTEXT), ANNA) == 1


def test_the_engine_with_the_longest_prefix_gets_the_continued_text() -> None:
    engines = router(8, 8)
    assert engines.place(submit(1, range(2 * BLOCK)), ANNA) == 0
    assert engines.place(submit(2, range(100, 100 + BLOCK)), BERT) == 1
    for token_id in range(500, 500 + BLOCK):
        engines.note(1, TokenEvent(2, token_id, ""))
    engines.note(1, finished(2))
    text = (*range(100, 100 + BLOCK), *range(500, 500 + BLOCK), 7)
    busier = [engines.place(submit(i, range(100, 100 + BLOCK)), None) for i in (3, 4)]
    assert busier == [1, 1]  # engine 1 has this prefix, and no engine has a longer one
    assert engines.place(submit(5, range(9)), None) == 0
    continued = Submit(6, text, SamplingParams(), seed=1)
    assert engines.place(continued, BERT) == 1
    edited = Submit(7, (*range(2 * BLOCK), *text), SamplingParams(), seed=1)
    assert engines.place(edited, BERT) == 0


def test_a_visitors_short_text_stays_on_its_engine_unless_that_is_much_busier() -> None:
    engines = router(8, 8)
    assert engines.place(submit(1), BERT) == 0
    assert engines.place(submit(2), ANNA) == 1
    engines.note(1, finished(2))
    engines.note(0, finished(1))
    assert engines.place(submit(3), ANNA) == 1
    assert engines.place(submit(4), ANNA) == 1
    assert engines.place(submit(5), ANNA) == 1
    assert engines.place(submit(6), ANNA) == 0  # engine 1 is busier by 3 of 8 slots


def test_the_parts_of_a_request_stay_together() -> None:
    engines = router(2, 2)
    part = {index: Written() for index in (0, 1)}
    first = Submit(1, (1,), SamplingParams(n=3), 1, resumption=Resumption(part, 0.0, False))
    last = Submit(1, (1,), SamplingParams(n=3), 1, resumption=Resumption({2: Written()}, 0, False))
    assert engines.place(first, None) == 0
    assert engines.place(last, None) == 0
    assert engines.engine_of(1) == 0
    assert engines.load == 3
    for index in range(3):
        assert engines.engine_of(1) == 0
        engines.note(0, finished(1, index))
    assert engines.engine_of(1) is None
    assert engines.load == 0
    engines.note(0, finished(1))  # has ended already
    assert engines.load == 0


def test_a_removed_engine_hands_back_its_requests() -> None:
    engines = router(4, 4)
    for number in range(4):
        engines.place(submit(number), None)
    assert engines.remove(1) == (1, 3)
    assert engines.remove(1) == ()
    assert (engines.slots, engines.load) == (4, 2)
    engines.note(1, TokenEvent(1, 5, ""))  # from a removed engine
    assert [engines.place(submit(i), ANNA) for i in (1, 3)] == [0, 0]
    assert engines.remove(0) == (0, 2, 1, 3)
    assert engines.place(submit(9), ANNA) is None


def test_each_path_of_an_expansion_counts_until_it_has_ended() -> None:
    engines = router(8)
    paths = tuple(Written((token,)) for token in (5, 6, 7))
    expanding = Submit(
        1, (1, 2), SamplingParams(), 1, expansion=Expansion(paths, (0.0,) * 3, 4, False)
    )
    engines.place(expanding, None)
    assert engines.load == 3
    engines.note(0, finished(1, index=0))
    assert engines.remove(0) == (1,)


def test_the_tokens_of_a_resumed_text_count_as_its_prefix() -> None:
    engines = router(8, 8)
    tokens = tuple(range(50, 50 + 2 * BLOCK))
    resumption = Resumption({0: Written(tokens)}, 1.0, False)
    engines.place(submit(1), None)
    resumed = Submit(2, (1, 2), SamplingParams(), 1, resumption=resumption)
    assert engines.place(resumed, None) == 1
    engines.place(submit(3), None)
    assert engines.place(Submit(4, (1, 2, *tokens), SamplingParams(), 1), None) == 1


def test_old_prefixes_are_forgotten() -> None:
    prefixes = Prefixes(4)
    prefixes.begin([1, 2, 3])
    assert prefixes.matched([1, 2, 9, 3]) == 2
    for number in range(3):
        prefixes.begin([1, 100 + number])
    assert prefixes.matched([1, 2, 3]) == 3
    prefixes.begin([7])
    assert prefixes.matched([1, 2, 3]) == 1
    assert len(prefixes) == 5


def test_the_number_of_visitors_and_prefixes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MOST_VISITORS", 10)
    engines = Router()
    engines.add(0, 2, 2 * CONTEXT, CONTEXT)
    for number in range(100):
        engines.place(submit(number, range(number, number + 3 * BLOCK)), Visitor(f"v{number}", "a"))
        engines.note(0, finished(number))
    assert len(engines._homes) == 10
    assert len(engines._engines[0].prefixes) <= KEPT * 2 * 3
