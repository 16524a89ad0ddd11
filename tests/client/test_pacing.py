"""The pauses between the updates of many readers."""

from __future__ import annotations

import pytest

from gptj_demo.client.pacing import API, GRID, PAGE, Pace


@pytest.mark.parametrize("pace", [PAGE, GRID, API])
def test_updates_per_second_are_limited_over_all_readers(pace: Pace) -> None:
    assert pace.pause(1) == max(pace.shortest, 1 / pace.per_second)
    for readers in range(1, 2000):
        pause = pace.pause(readers)
        assert pace.shortest <= pause <= pace.sign_of_life
        if pause < pace.sign_of_life:
            assert readers / pause <= pace.per_second * (1 + 1e-9)
