"""When an engine that ended is started again."""

from __future__ import annotations

import pytest

from gptj_demo.client.restarts import RESTART_DELAYS, Restarts, given_up
from gptj_demo.texts import Message, message

KILLED = message("exit.killed", signal="SIGKILL")
SEGFAULT = message("exit.signal", signal="SIGSEGV")


def code(number: int) -> Message:
    return message("exit.code", code=str(number))


@pytest.mark.parametrize("how", [KILLED, SEGFAULT, code(1)])
def test_the_same_end_twice_before_an_engine_was_ready_is_final(how: Message) -> None:
    restarts = Restarts()
    assert restarts.delay_after(how, was_ready=False) is not None
    assert restarts.delay_after(how, was_ready=False) is None


def test_two_equal_ends_with_other_ends_between_them_are_final() -> None:
    restarts = Restarts()
    assert restarts.delay_after(KILLED, was_ready=False) is not None
    assert restarts.delay_after(code(1), was_ready=False) is not None
    assert restarts.delay_after(code(2), was_ready=False) is not None
    assert restarts.delay_after(KILLED, was_ready=False) is None


def test_an_engine_that_was_ready_is_always_started_again() -> None:
    restarts = Restarts()
    assert restarts.delay_after(KILLED, was_ready=True) == RESTART_DELAYS[0]
    delays = [restarts.delay_after(KILLED, was_ready=False) for _ in range(10)]
    assert delays == [*RESTART_DELAYS[1:], *[RESTART_DELAYS[-1]] * 5]
    assert restarts.delay_after(KILLED, was_ready=True) == RESTART_DELAYS[0]


def test_the_reason_names_how_the_engines_ended_and_what_to_try() -> None:
    assert "SIGKILL, often a lack of memory" in str(given_up(KILLED))
    assert "free some memory" in str(given_up(KILLED))
    assert "exit code 1" in str(given_up(code(1)))
    assert "model to sample" in str(given_up(code(1)))
