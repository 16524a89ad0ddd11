"""Slots and places in the queue, where they are shared by address."""

from __future__ import annotations

import pytest

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.shares import ACTIVE_SECONDS
from tests.client.test_admission import admission, ask, enter, run


def sessions(count: int) -> list[str]:
    """Visitors that one caller made up."""
    return [f"session {number}@caller" for number in range(count)]


def test_turns_alternate_between_addresses_before_visitors() -> None:
    one = admission(slots=2)
    for request_id, visitor in enumerate(sessions(5)):
        for started in ask(one, request_id, visitor):
            one.start(started)
    assert ask(one, 5, "person") == []
    assert one.moved()[0] == (5, 0)
    one.end_completion(0)
    assert one.next_turns() == [5]
    one.end_completion(5)
    assert one.next_turns() == [2]


def test_visitors_of_one_address_take_turns() -> None:
    one = admission(slots=2)
    run(one, 1, "busy@class")
    run(one, 2, "busy@class")
    for request_id, visitor in [(3, "busy@class"), (4, "pupil@class")]:
        ask(one, request_id, visitor)
    one.end_completion(1)
    assert one.next_turns() == [4]


def test_an_address_has_all_slots_unless_addresses_share() -> None:
    one = admission(slots=8)
    assert sum(len(ask(one, i, visitor)) for i, visitor in enumerate(sessions(8))) == 8


def test_200_sessions_of_one_address_leave_a_slot_and_places_in_the_queue() -> None:
    one = admission(slots=8, max_waiting=64, shares_by_address=True)
    submitted: list[int] = []
    refused = 0
    for request_id, visitor in enumerate(sessions(200)):
        if (
            one.usage.waiting == 48 + 1
        ):  # three quarters of the queue, and one for the slot that is free
            with pytest.raises(RequestRefused, match="49 requests of yours"):
                enter(one, request_id, visitor)
            refused += 1
            continue
        submitted += (turns := ask(one, request_id, visitor))
        for started in turns:
            one.start(started)
    assert (len(submitted), one.usage.waiting, refused) == (7, 49, 200 - 7 - 49)
    assert ask(one, 1000, "person") == [1000]
    one.start(1000)
    assert ask(one, 1001, "another person") == [1001]  # one more than there are slots
    assert ask(one, 1002, "a third person") == []
    assert dict(one.moved())[1002] == 1
    one.end_completion(submitted[0])
    assert one.next_turns() == [1002]


def test_requests_of_many_completions_do_not_take_more_than_the_share_of_an_address() -> None:
    one = admission(slots=8, shares_by_address=True)
    submitted = [ask(one, i, visitor, completions=4) for i, visitor in enumerate(sessions(9))]
    assert submitted[:3] == [[0] * 4, [1] * 3, []]
    assert ask(one, 99, "person") == [99]
    one = admission(slots=4, shares_by_address=True)
    assert ask(one, 1, "caller", completions=8) == [1] * 3


def test_an_address_has_half_of_the_slots_while_another_one_is_active() -> None:
    now = [0.0]
    one = admission(slots=8, shares_by_address=True, clock=lambda: now[0])
    caller = [f"{name}@caller" for name in range(20)]
    assert sum(len(ask(one, i, caller[i])) for i in range(10)) == 7
    run(one, 10, "person")
    for request_id in (0, 1, 2, 3):
        one.end_completion(request_id)
        assert one.next_turns() == ([7 + request_id - 3] if request_id == 3 else [])
    now[0] = 30.0
    one.end_completion(10)  # the person reads and sends nothing
    assert one.next_turns() == []
    now[0] = 30.0 + ACTIVE_SECONDS
    assert one.next_turns() == []
    now[0] += 0.1
    assert one.next_turns() == [8, 9]


def test_a_request_of_the_process_itself_leaves_addresses_their_slots() -> None:
    one = admission(slots=8, shares_by_address=True)
    run(one, 0)
    assert sum(len(ask(one, i, "caller")) for i in range(1, 10)) == 7
