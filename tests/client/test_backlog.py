"""A stream whose reader does not read."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from gptj_demo.client import Worker, backlog
from gptj_demo.client.backlog import Backlog
from gptj_demo.protocol import (
    Alternative,
    Finished,
    PromptScored,
    Started,
    StreamEvent,
    TokenEvent,
    TokenLogprobs,
)
from gptj_demo.texts import message
from tests.client.requests import collect, ends, request, run, until

PLAIN = TokenEvent(1, 5, "a")
SCORED = TokenLogprobs(-1.0, -1.0, 1, (Alternative(5, -1.0, -1.0, None),) * 20)


def test_a_backlog_counts_what_it_holds() -> None:
    one = Backlog()
    events: list[StreamEvent] = [
        Started(1, 1),
        PLAIN,
        TokenEvent(1, 5, "a", 0, SCORED),
        PromptScored(1, (1, 2, 3), (None, SCORED, SCORED), -2.0, None, None),
    ]
    sizes = []
    for event in events:
        before = one.size
        one.append(event)
        sizes.append(one.size - before)
    assert sizes[0] == sizes[1] < sizes[2] < sizes[3]
    assert sizes[2] > 20 * backlog.ALTERNATIVE_BYTES
    assert [one.popleft() for _ in range(len(one))] == events
    assert one.size == 0
    one.extend(events)
    one.clear()
    assert (len(one), one.size) == (0, 0)


def test_the_largest_answer_fits_into_a_backlog() -> None:
    one = Backlog()
    one.extend(TokenEvent(1, 5, "a", 0, SCORED) for _ in range(2048))
    assert not one.is_too_large


def test_a_stream_that_nobody_reads_ends_with_a_sentence_and_frees_its_slots(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(backlog, "MAX_BYTES", 20_000)
        long = request(
            "x",
            max_new_tokens=2000,
            temperature=2.0,
            top_p=1.0,
            ignore_eos=True,
            n=2,
            logprobs=5,
        )
        async with aclosing(worker.stream(long)) as stream:
            await anext(stream)
            await until(lambda: stream.over)
            left = await stream.drain()
            assert [(end.index, end.reason) for end in ends(left)] == [(0, "error"), (1, "error")]
            assert {str(end.message) for end in ends(left)} == {str(message("end.unread"))}
            assert sum(isinstance(event, Finished) for event in left) == len(left)
        await until(lambda: worker.streams_running == 0)
        # A stream with a reader is not affected. It needs the real limit: on a busy machine its
        # reader can be more than 14 tokens behind.
        monkeypatch.undo()
        text, _ = await collect(worker, request(max_new_tokens=100, logprobs=5))
        assert text

    run(scenario())
