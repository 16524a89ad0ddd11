"""The pauses between the updates of many readers."""

from __future__ import annotations

import pytest

from gptj_demo.client.pacing import API, GRID, PAGE, Pace, Repeats


@pytest.mark.parametrize("pace", [PAGE, GRID, API])
def test_updates_per_second_are_limited_over_all_readers(pace: Pace) -> None:
    assert pace.pause(1) == max(pace.shortest, 1 / pace.per_second)
    for readers in range(1, 2000):
        pause = pace.pause(readers)
        assert pace.shortest <= pause <= pace.sign_of_life
        if pause < pace.sign_of_life:
            assert readers / pause <= pace.per_second * (1 + 1e-9)


def test_whole_answers_are_sent_more_rarely_the_longer_they_are() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    sent = [change for change in range(1000) if repeats.is_due(1)]
    assert sent[:16] == [*range(16)]
    assert 16 < len(sent) < 100


def test_a_whole_answer_without_changes_is_sent_as_a_sign_of_life() -> None:
    now = 0.0
    repeats = Repeats(clock=lambda: now)
    assert repeats.is_due(0)
    assert not repeats.is_due(0)
    now = API.sign_of_life
    assert repeats.is_due(0)
    assert not repeats.is_due(0)
