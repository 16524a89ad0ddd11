"""How many engines there should be."""

from __future__ import annotations

import pytest

from gptj_demo.client.backends.scaling import DOWN_SECONDS, UP_SECONDS, Scaling, engine_range
from gptj_demo.settings import InvalidSettings


def run(scaling: Scaling, busy: int, begin: float, seconds: float) -> int:
    """Report `busy` of 8 slots once a second; return the wanted number of engines."""
    for second in range(int(seconds) + 1):
        scaling.update(busy, 8, begin + second)
    return scaling.wanted


def test_engines_are_added_after_seconds_of_load_and_ended_after_minutes_without() -> None:
    scaling = Scaling(1, 4)
    assert run(scaling, 0, 0, 60) == 1
    assert run(scaling, 9, 61, UP_SECONDS - 1) == 1
    assert run(scaling, 9, 61 + UP_SECONDS, 0) == 2
    assert run(scaling, 18, 70, UP_SECONDS) == 3
    assert run(scaling, 27, 80, UP_SECONDS) == 4
    assert run(scaling, 100, 90, UP_SECONDS) == 4
    assert run(scaling, 7, 100, DOWN_SECONDS - 10) == 4
    assert run(scaling, 7, 90 + DOWN_SECONDS, 20) == 2
    assert run(scaling, 0, 120 + DOWN_SECONDS, DOWN_SECONDS + 1) == 1


def test_a_short_burst_changes_nothing() -> None:
    scaling = Scaling(2, 4)
    assert run(scaling, 0, 0, 10) == 2
    assert run(scaling, 60, 11, UP_SECONDS - 2) == 2
    assert run(scaling, 0, 20, 10) == 2


def test_a_gap_in_the_load_ends_no_engine() -> None:
    scaling = Scaling(1, 4)
    assert run(scaling, 24, 0, DOWN_SECONDS + 10) == 4
    assert run(scaling, 0, DOWN_SECONDS + 11, 30) == 4
    assert run(scaling, 24, DOWN_SECONDS + 42, DOWN_SECONDS) == 4


def test_the_number_of_engines_is_kept_while_no_engine_is_ready() -> None:
    scaling = Scaling(2, 4)
    for second in range(1000):
        assert scaling.update(0, 0, second) == 2


@pytest.mark.parametrize(("text", "numbers"), [("1", (1, 1)), ("2..8", (2, 8)), ("3..3", (3, 3))])
def test_the_setting_is_a_number_or_a_range_of_engines(text: str, numbers: tuple[int, int]) -> None:
    assert engine_range(text) == numbers


@pytest.mark.parametrize("text", ["0", "-1", "2..", "..2", "3..2", "two", "1..65", "1...3", ""])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"a number from 1 to 64, such as 2, or a range"):
        engine_range(text)
