"""Which requests enter the queue, and which one is next; no engine runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.client.admission import Admission
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.shares import Capacity
from gptj_demo.pages import Reservation
from gptj_demo.protocol import Visitor

CONTEXT = 2048
"""Tokens of the KV cache for each slot, and of a completion, where a test does not say it."""


def admission(
    slots: int = 2,
    max_waiting: int = 100,
    max_tokens: int | None = None,
    shares_by_address: bool = False,
    clock: Callable[[], float] = lambda: 0.0,
) -> Admission:
    """An admission with an engine that takes requests."""
    one = Admission(max_waiting, shares_by_address=shares_by_address, clock=clock)
    one.capacity = Capacity(slots, slots * CONTEXT if max_tokens is None else max_tokens)
    one.is_open = True
    return one


def enter(one: Admission, request_id: int, visitor: str | None, completions: int = 1) -> None:
    """Enter a request of a visitor: name@address, or a name that is also the address."""
    name, _, address = (visitor or "").partition("@")
    one.enter(request_id, Visitor(name, address or name) if visitor else None, completions)


def ask(
    one: Admission,
    request_id: int,
    visitor: str | None = None,
    completions: int = 1,
    tokens: int = CONTEXT,
    shared: int = 0,
) -> list[int]:
    """Enter a request that is ready at once; return the requests whose completions are submitted.

    Each completion reserves `tokens`, and the request once reserves `shared` more.
    """
    enter(one, request_id, visitor, completions)
    assert one.mark_ready(request_id, Reservation(shared, tokens))
    return one.next_turns()


def run(one: Admission, request_id: int, visitor: str | None = None, tokens: int = CONTEXT) -> None:
    """A request that has started."""
    assert ask(one, request_id, visitor, tokens=tokens) == [request_id]
    one.start(request_id)


def test_requests_are_submitted_while_there_are_slots() -> None:
    one = admission(slots=2)
    assert ask(one, 1) == [1]
    assert ask(one, 2) == [2]
    assert ask(one, 3) == []
    assert one.end_completion(1)
    assert one.next_turns() == [3]


def test_the_engine_gets_an_eighth_more_than_it_has_slots() -> None:
    one = admission(slots=16)
    submitted = [ask(one, request_id) for request_id in range(20)]
    assert sum(map(len, submitted)) == 18


def test_nothing_is_submitted_before_an_engine_takes_requests() -> None:
    one = Admission(100)
    assert ask(one, 1) == []
    one.capacity, one.is_open = Capacity(2, 2 * CONTEXT), True
    assert one.next_turns() == [1]


def test_a_request_of_several_completions_counts_for_each() -> None:
    one = admission(slots=4)
    assert ask(one, 1, completions=4) == [1] * 4
    assert ask(one, 2) == []
    one.start(1)
    assert one.usage.running == 4
    assert not one.end_completion(1)
    assert (one.usage.running, one.next_turns()) == (3, [2])


def test_the_visitor_with_the_fewest_completions_comes_next() -> None:
    one = admission(slots=2)
    run(one, 1, "busy")
    run(one, 2, "busy")
    for request_id, visitor in [(3, "busy"), (4, "busy"), (5, "person")]:
        assert ask(one, request_id, visitor) == []
    assert one.moved() == [(5, 0), (3, 1), (4, 2)]
    one.end_completion(1)
    assert one.next_turns() == [5]
    one.start(5)
    assert one.moved() == [(3, 0), (4, 1)]
    one.end_completion(2)
    assert one.next_turns() == [3]  # with one each, the request that came first


@pytest.mark.parametrize(
    ("slots", "most"), [(0, 0), (1, 1), (3, 3), (4, 3), (8, 7), (16, 14), (64, 56)]
)
def test_one_visitor_leaves_slots_for_other_visitors(slots: int, most: int) -> None:
    one = admission(slots=slots)
    assert one.capacity.of_a_visitor == most
    submitted = [ask(one, request_id, "busy") for request_id in range(slots + 10)]
    assert sum(map(len, submitted)) == (most if slots > 3 else slots)
    if slots > 3:
        assert ask(one, 99, "person") == [99]


def test_the_process_itself_may_have_all_slots() -> None:
    one = admission(slots=8)
    assert sum(len(ask(one, request_id)) for request_id in range(8)) == 8


def test_one_visitor_gets_at_most_three_quarters_of_the_queue() -> None:
    one = Admission(max_waiting=8)
    for request_id in range(6):
        enter(one, request_id, "busy", 1)
    with pytest.raises(RequestRefused, match="6 requests of yours") as refusal:
        enter(one, 6, "busy", 1)
    assert refusal.value.kind == "queue_full"
    enter(one, 7, "person", 1)
    enter(one, 8, None, 1)
    with pytest.raises(RequestRefused, match="8 requests are waiting"):
        enter(one, 9, "person", 1)
    one.leave(8)
    enter(one, 10, "person", 1)


def test_free_slots_count_as_places_in_the_queue() -> None:
    one = admission(slots=2, max_waiting=0)
    enter(one, 1, None, 1)
    enter(one, 2, None, 1)
    with pytest.raises(RequestRefused, match="2 requests are waiting"):
        enter(one, 3, None, 1)


def test_a_place_is_reported_once_and_again_when_it_changes() -> None:
    one = admission(slots=1)
    run(one, 1)
    ask(one, 2)
    ask(one, 3)
    assert one.moved() == [(2, 0), (3, 1)]
    assert one.moved() == []
    one.leave(2)
    assert one.moved() == [(3, 0)]


def test_a_request_that_left_is_forgotten_wherever_it_was() -> None:
    one = admission(slots=1)
    run(one, 1)
    ask(one, 2)
    enter(one, 3, None, 1)
    for request_id in (1, 2, 3, 3, 99):
        one.leave(request_id)
    assert (one.usage.running, one.usage.waiting, one.next_turns(), one.moved()) == (0, 0, [], [])
    assert not one.mark_ready(2, Reservation(0, CONTEXT))


# ---- one address with many visitors


@dataclass
class Asked:
    """A request as the test knows it."""

    visitor: str | None
    completions: int
    tokens: int  # that each completion reserves
    state: str = "waiting"  # then "submitted", "started", and "suspended" if the engine ends
    sent: int = 0  # completions that the engine has


actions = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from([None, "a", "b", "c"]), st.integers(1, 30)),
    st.tuples(st.just("start"), st.none(), st.integers(0, 99)),
    st.tuples(st.just("end"), st.none(), st.integers(0, 99)),
    st.tuples(st.just("leave"), st.none(), st.integers(0, 99)),
    st.tuples(st.just("die"), st.none(), st.just(0)),
)


@given(
    slots=st.integers(1, 9),
    max_tokens=st.integers(10, 100),
    actions=st.lists(actions, max_size=60),
)
def test_random_actions_respect_shares_fill_slots_and_starve_no_request(
    slots: int, max_tokens: int, actions: list[tuple[str, str | None, int]]
) -> None:
    one = admission(slots=slots, max_tokens=max_tokens, max_waiting=20)
    known: dict[int, Asked] = {}
    places: dict[int, int] = {}

    def submit() -> None:
        for request_id in one.next_turns():
            asked = known[request_id]
            asked.sent += 1
            assert asked.sent <= asked.completions
            following = {"waiting": "submitted", "suspended": "started"}
            asked.state = following.get(asked.state, asked.state)

    def picked(states: tuple[str, ...], number: int) -> int | None:
        ids = [i for i, asked in known.items() if asked.state in states]
        if states == _IN_ENGINE:
            ids = [i for i in ids if known[i].sent]
        return ids[number % len(ids)] if ids else None

    def end(request_id: int) -> None:
        known[request_id].completions -= 1
        known[request_id].sent -= 1
        known[request_id].state = "started"
        assert one.end_completion(request_id) == (known[request_id].completions == 0)
        if not known[request_id].completions:
            del known[request_id]

    for number, (kind, visitor, value) in enumerate(actions):
        if kind == "enter":
            completions, tokens = 1 + value % 3, 1 + value // 3
            try:
                enter(one, number, visitor, completions)
            except RequestRefused:
                own = [a for a in known.values() if a.state in _WAITING and a.visitor == visitor]
                assert len(own) >= 15 or one.usage.waiting >= 20
                continue
            known[number] = Asked(visitor, completions, tokens)
            one.mark_ready(number, Reservation(0, tokens))
        elif kind == "start" and (found := picked(("submitted",), value)) is not None:
            one.start(found)
            known[found].state = "started"
        elif kind == "end" and (found := picked(_IN_ENGINE, value)) is not None:
            end(found)
        elif kind == "leave" and (found := picked(tuple(_STATES), value)) is not None:
            one.leave(found)
            del known[found]
        elif kind == "die":
            had = {i for i, asked in known.items() if asked.sent}
            assert set(one.suspend()) == had
            begun = {i for i, asked in known.items() if asked.state in ("started", "suspended")}
            assert set(one.suspended()) >= had | begun
            for asked in known.values():
                asked.sent = 0
                asked.state = "suspended" if asked.state in ("started", "suspended") else "waiting"
            one.is_open = True  # the next engine
        submit()
        places |= dict(one.moved())
        waiting = [i for i, asked in known.items() if asked.state in _WAITING]
        assert sorted(places[i] for i in waiting) == list(range(len(waiting)))
        assert one.usage.waiting == len(waiting)
        assert one.usage.running == min(
            slots,
            sum(
                a.completions if a.state == "suspended" else a.sent
                for a in known.values()
                if a.state not in _WAITING
            ),
        )
        total = taken(one, known.values())
        assert sum(a.sent for a in known.values()) <= one.capacity.most
        longest = max((a.tokens for a in known.values() if a.sent), default=0)
        assert total < one.capacity.most + max(1, longest * slots / max_tokens)
        for name in {a.visitor for a in known.values()} - {None}:
            # a request waits only if all slots or its visitor's share are taken
            own = [a for a in known.values() if a.visitor == name]
            share, waits = one.capacity.of_a_visitor, [a for a in own if a.sent < a.completions]
            sent = sum(a.sent for a in own)
            assert taken(one, own) <= share or sent == 1
            if waits and total < slots:
                assert sent
                assert any(taken(one, own, further=a) > share for a in waits)
        if any(a.visitor is None and a.sent < a.completions for a in known.values()):
            assert total >= slots
    # every request is submitted in the end
    while known:
        submit()
        found = picked(_IN_ENGINE, 0)
        assert found is not None
        end(found)


def taken(one: Admission, requests: Iterable[Asked], further: Asked | None = None) -> float:
    """Slots that the completions in the engine take, plus one more of the request `further`."""
    sent = [(asked.sent + (asked is further), asked.tokens) for asked in requests]
    return one.capacity.taken(sum(n for n, _ in sent), sum(n * tokens for n, tokens in sent))


_STATES = ("waiting", "submitted", "started", "suspended")
_WAITING = ("waiting", "submitted")
_IN_ENGINE = ("submitted", "started")


def test_the_next_engine_gets_the_requests_of_the_last_one_first() -> None:
    one = admission(slots=2)
    run(one, 5, "a")
    run(one, 6, "a")
    assert ask(one, 7, "b") == []
    assert one.suspend() == [5, 6]
    assert one.suspended() == [5, 6]
    assert one.next_turns() == []
    assert one.usage.running == 2  # they keep their slots
    one.is_open = True
    assert one.next_turns() == [5, 6]
    assert one.suspended() == []
    assert one.end_completion(6)
    assert one.next_turns() == [7]


def test_a_suspended_request_survives_an_engine_that_was_never_ready() -> None:
    one = admission(slots=1)
    run(one, 1)
    assert one.suspend() == [1]
    assert one.suspend() == []
    one.is_open = True
    assert one.next_turns() == [1]


def test_each_suspect_is_alone_in_the_engine_until_it_has_a_token() -> None:
    one = admission(slots=5)
    for request_id in range(5):
        run(one, request_id)
    one.suspend()
    for request_id in (1, 2, 4):
        one.suspect(request_id)
    one.is_open = True
    assert one.next_turns() == [1]
    assert one.next_turns() == []
    assert one.clear(1)
    assert one.next_turns() == [2]
    one.leave(2)
    assert one.next_turns() == [4]
    assert not one.clear(3)
    assert one.clear(4)
    assert one.next_turns() == [0, 3]


def test_all_completions_of_a_suspended_request_come_before_new_requests() -> None:
    one = admission(slots=4)
    assert ask(one, 1, "a", completions=3) == [1, 1, 1]
    one.start(1)
    one.suspend()
    one.is_open = True
    assert ask(one, 2, "b", completions=2) == [1, 1, 1, 2]


def test_a_change_of_the_tokenizer_marks_queued_requests_as_not_ready() -> None:
    one = admission(slots=1)
    run(one, 1)
    ask(one, 2)
    assert one.not_ready() == []
    one.unprepare()
    assert one.not_ready() == [2]
