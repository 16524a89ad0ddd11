"""When an engine counts as hung, by a clock that is set by hand."""

from __future__ import annotations

from gptj_demo.client.watch import SILENCE, SILENCE_WHILE_LOADING, STEP, Watch
from gptj_demo.protocol import EngineStatus, Heartbeat
from gptj_demo.texts import message

READY = EngineStatus("ready", message("status.warming_up"))


def ready() -> Watch:
    """The watch of an engine that has been ready since time 0."""
    watch = Watch(0.0)
    watch.note(READY, 0.0)
    return watch


def test_an_engine_that_sends_heartbeats_is_not_hung() -> None:
    watch = ready()
    for second in range(1000):
        watch.note(Heartbeat(None), float(second))
        assert watch.hung_for(second + 0.9) is None


def test_an_engine_that_sends_nothing_is_hung() -> None:
    watch = ready()
    assert watch.hung_for(SILENCE) is None
    assert watch.hung_for(SILENCE + 1) == SILENCE + 1


def test_an_engine_may_be_silent_for_longer_while_it_loads() -> None:
    watch = Watch(0.0)
    assert watch.hung_for(SILENCE_WHILE_LOADING) is None
    assert watch.hung_for(SILENCE_WHILE_LOADING + 1) is not None


def test_a_start_after_a_successful_start_has_a_shorter_silence_limit() -> None:
    first = Watch(0.0)
    first.note(Heartbeat(None), 1.0)
    first.note(READY, 2.0)
    second = Watch(100.0, first)
    assert second.hung_for(100 + SILENCE) is None
    assert second.hung_for(101 + SILENCE) is not None
    third = Watch(200.0, second)  # the second was never ready
    assert third.hung_for(201 + SILENCE) is not None


def test_a_start_after_a_long_silence_has_a_longer_silence_limit() -> None:
    first = Watch(0.0)
    first.note(READY, 10.0)
    second = Watch(100.0, first)
    assert second.hung_for(100 + 200) is None
    assert second.hung_for(100 + 201) is not None


def test_a_step_without_an_end_is_a_hang_though_heartbeats_come() -> None:
    watch = ready()
    watch.note(Heartbeat(STEP), STEP)
    assert watch.hung_for(STEP) is None
    watch.note(Heartbeat(STEP + 1), STEP + 1)
    assert watch.hung_for(STEP + 1) == STEP + 1


def test_a_slow_machine_gets_longer_for_a_step() -> None:
    watch = ready()
    watch.note(Heartbeat(STEP / 2), STEP / 2)
    watch.note(Heartbeat(0.1), STEP)
    watch.note(Heartbeat(3 * STEP), 4 * STEP)
    assert watch.hung_for(4 * STEP) is None
