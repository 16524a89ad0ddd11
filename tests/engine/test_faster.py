"""The choice between two ways to do the same work."""

from __future__ import annotations

from collections.abc import Callable

from gptj_demo.engine.model.cpu.faster import Faster


def used(faster: Faster, uses: int, seconds: Callable[[int], float]) -> list[int]:
    """The ways that were used, each taking `seconds(way)`."""
    ways = []
    for _ in range(uses):
        ways.append(faster.choose())
        faster.note(ways[-1], seconds(ways[-1]))
    return ways


def test_both_ways_are_tried_then_the_faster_one_is_used() -> None:
    for fast in (0, 1):
        ways = used(Faster(), 100, lambda way, fast=fast: 1.0 if way == fast else 2.0)
        assert ways[:8] == [1, 1, 1, 1, 0, 0, 0, 0]
        assert set(ways[8:24]) == {fast}


def test_the_slower_way_is_tried_soon_and_then_rarely() -> None:
    ways = used(Faster(), 10_000, lambda way: [2.0, 1.0][way])
    assert 0 < ways[8:50].count(0) < 10
    assert 0 < ways.count(0) < 150


def test_a_way_that_becomes_slow_is_left_at_once() -> None:
    faster = Faster()
    assert used(faster, 100, lambda way: [2.0, 1.0][way])[-1] == 1
    ways = used(faster, 100, lambda way: [2.0, 9.0][way])
    assert ways.count(1) < 10


def test_a_way_that_becomes_fast_again_is_found() -> None:
    faster = Faster()
    used(faster, 100, lambda way: [1.0, 50.0][way])
    assert used(faster, 10_000, lambda way: [1.0, 0.5][way])[-1] == 1


def test_a_single_slow_time_changes_little() -> None:
    faster = Faster()
    used(faster, 100, lambda way: [2.0, 1.0][way])
    used(faster, 1, lambda way: [2.0, 1000.0][way])
    assert used(faster, 50, lambda way: [2.0, 1.0][way]).count(0) < 10


def test_the_first_time_after_a_change_does_not_count() -> None:
    faster, before = Faster(), 0

    def seconds(way: int) -> float:
        nonlocal before
        is_new, before = way != before, way
        return 1000.0 if is_new else [2.0, 1.0][way]

    ways = used(faster, 1000, seconds)
    assert ways.count(0) < 50
