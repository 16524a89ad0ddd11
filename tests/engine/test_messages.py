"""The messages that the engine's loop sends: fast tokens together, everything else at once."""

from __future__ import annotations

import queue
from typing import Any, cast

import pytest

from gptj_demo.engine import loop
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.loop import GATHER_SECONDS
from gptj_demo.engine.pulse import Pulse
from gptj_demo.protocol import Cancel, EngineEvent, Finished, Started, TokenEvent
from gptj_demo.texts import message

FAST, SLOW = GATHER_SECONDS / 4, GATHER_SECONDS


class Over(Exception):
    """The scripted engine has no more steps."""


class Scripted:
    """An engine that makes given events in steps of given seconds.

    `cancelled` is the number of a step before which request 2 is cancelled.
    """

    is_idle = False

    def __init__(self, *steps: tuple[float, list[EngineEvent]], cancelled: int = -1) -> None:
        self._now, self._steps, self._cancelled = 100.0, steps, cancelled
        self._done = 0
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def messages(self) -> list[list[EngineEvent]]:
        """The events of each message that the loop sends."""
        sent: list[Any] = []
        engine = cast(Engine, self)
        with pytest.raises(Over):
            loop.serve(engine, self._inbox, sent.append, Pulse(sent.append), lambda: self._now)
        return [list(one.events) for one in sent]

    def step(self) -> list[EngineEvent]:
        if self._done == len(self._steps):
            raise Over
        seconds, events = self._steps[self._done]
        self._now += seconds
        self._done += 1
        if self._done == self._cancelled:
            self._inbox.put(Cancel(2))
        return events

    def cancel(self, request_id: int) -> list[EngineEvent]:
        return [end(request_id)]


def token(number: int) -> TokenEvent:
    return TokenEvent(1, number, "x")


def end(request_id: int) -> Finished:
    return Finished(request_id, "length", message("end.model"), "", 1, 1, 0)


def test_the_tokens_of_fast_steps_are_sent_together() -> None:
    tokens = [token(number) for number in range(9)]
    engine = Scripted(*((FAST, [one]) for one in tokens))
    first, *others = engine.messages()
    assert first == tokens[:1]  # nothing was sent for long
    assert others == [tokens[1:5], tokens[5:9]]


def test_the_tokens_of_a_slow_step_are_sent_at_once() -> None:
    tokens = [token(number) for number in range(3)]
    engine = Scripted(*((SLOW, [one]) for one in tokens))
    assert engine.messages() == [[one] for one in tokens]


@pytest.mark.parametrize("event", [end(1), Started(2, 5)])
def test_all_other_events_are_sent_at_once_after_the_tokens_before_them(event: Any) -> None:
    steps: list[list[EngineEvent]] = [[token(0)], [token(1)], [token(2), event], [token(3)]]
    engine = Scripted(*((FAST, events) for events in steps), (SLOW, []))
    assert engine.messages() == [[token(0)], [token(1), token(2), event], [token(3)]]


def test_tokens_do_not_wait_for_the_step_after_a_new_message() -> None:
    """That step may read a long prompt."""
    engine = Scripted((FAST, [token(0)]), (FAST, [token(1)]), (100, [token(2)]), cancelled=2)
    assert engine.messages() == [[token(0)], [token(1)], [end(2), token(2)]]


def test_a_step_without_events_sends_no_message() -> None:
    assert Scripted((SLOW, []), (SLOW, [])).messages() == []
