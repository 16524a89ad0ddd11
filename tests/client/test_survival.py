"""Streams whose engine ends or hangs, by a scripted engine: they go on in the next one, or end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gptj_demo.client import Stream, watch
from gptj_demo.client.progress import MOST_DEATHS
from gptj_demo.client.worker import MOST_FAILURES
from gptj_demo.protocol import (
    Finished,
    Reconnecting,
    Started,
    TokenEvent,
    Written,
)
from tests.client.requests import run, until
from tests.client.scripted import TOKENIZER, Bench, finished, last, started, token


def test_a_stream_continues_in_the_next_engine_before_queued_requests(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=1)
        first, second = await bench.open(), await bench.open()
        await until(lambda: bench.backend.submitted == [first.request_id])
        bench.backend.step(started(first), token(first))
        bench.backend.stop()
        await until(lambda: bench.backend.lives == 2)
        bench.backend.load(slots=1)
        await until(lambda: len(bench.backend.sent) == 2)
        resumption = bench.backend.submits[1].resumption
        assert resumption is not None
        assert resumption.written == {0: Written((5,))}
        bench.backend.step(started(first), token(first), finished(first))
        events = [event async for event in first]
        assert [type(event) for event in events] == [
            Started, TokenEvent, Reconnecting, TokenEvent, Finished,
        ]  # fmt: skip
        await until(lambda: bench.backend.submitted[2:] == [second.request_id])
        bench.backend.step(started(second), finished(second))
        assert (await last(second)).reason == "length"
        assert bench.worker.restarts == 1

    run(scenario())


async def lose(bench: Bench, *streams: Stream) -> None:
    """An engine gets the streams and ends without a token."""
    lives, sent = bench.backend.lives, len(bench.backend.sent)
    bench.backend.load()
    await until(lambda: len(bench.backend.sent) >= sent + len(streams))
    bench.backend.step(*map(started, streams))
    bench.backend.stop()
    await until(lambda: bench.backend.lives == lives + 1)


def test_a_request_that_ends_every_engine_is_given_up(bench: Bench) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        for _ in range(MOST_DEATHS + 1):
            await lose(bench, stream)
        end = await last(stream)
        assert (end.reason, end.message.code) == ("error", "end.restarted")
        assert "exit code 3" in str(end.message)
        assert len(bench.backend.submits) == MOST_DEATHS + 1

    run(scenario())


def test_requests_without_a_token_from_two_engines_resume_one_at_a_time(bench: Bench) -> None:
    async def scenario() -> None:
        streams = [await bench.open(), await bench.open()]
        await lose(bench, *streams)
        await lose(bench, *streams)
        bench.backend.load()
        first, second = (stream.request_id for stream in streams)
        await until(lambda: bench.backend.submitted[4:] == [first])
        bench.backend.step(started(streams[0]), token(streams[0]))
        await until(lambda: bench.backend.submitted[4:] == [first, second])

    run(scenario())


def test_streams_end_where_no_engine_becomes_ready_again(bench: Bench) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        await lose(bench, stream)
        later = await bench.open()  # has been sent to no engine
        for life in range(2, 2 + MOST_FAILURES):
            bench.backend.stop()
            await until(lambda life=life: bench.backend.lives == life or stream.over)
        for one in (stream, later):
            end = await last(one)
            assert (end.reason, end.message.code) == ("error", "end.restarted")
        assert bench.backend.submitted.count(later.request_id) == 0
        bench.backend.load()
        new = await bench.open()
        await until(lambda: new.request_id in bench.backend.submitted)

    run(scenario())


@pytest.mark.parametrize("other", ["tokenizer", "model"])
def test_a_stream_does_not_go_on_in_another_model(bench: Bench, other: str) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream, new = await bench.open(), None
        await until(lambda: len(bench.backend.sent) == 1)
        bench.backend.step(started(stream), token(stream))
        bench.backend.stop()
        await until(lambda: bench.backend.lives == 2)
        if other == "tokenizer":
            bench.backend.say(replace(TOKENIZER, context_length=32))
        else:
            bench.backend.load(precision="int8")
        assert (await last(stream)).reason == "error"
        bench.backend.load()
        new = await bench.open()
        await until(lambda: bench.backend.submitted[1:] == [new.request_id])

    run(scenario())


def test_a_stream_that_was_stopped_does_not_go_on(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream = await bench.open()
        await until(lambda: len(bench.backend.sent) == 1)
        bench.backend.step(started(stream), token(stream))
        while not isinstance(await anext(stream), TokenEvent):
            pass
        stream.cancel()
        bench.backend.stop()
        end = await last(stream)
        assert (end.reason, end.prompt_tokens, end.completion_tokens) == ("cancelled", 1, 1)

    run(scenario())


def test_a_message_that_cannot_be_handled_ends_the_engine_and_no_stream(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream = await bench.open()
        await until(lambda: bench.backend.submitted == [stream.request_id])
        bench.backend.say(b"what is this?")
        bench.backend.stop()  # the messages of the next engine follow
        await until(lambda: bench.backend.lives == 2)
        bench.backend.load()
        await until(lambda: len(bench.backend.sent) == 2)
        bench.backend.step(started(stream), finished(stream))
        assert (await last(stream)).reason == "length"

    run(scenario())


def test_a_silent_engine_is_killed_and_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream = await bench.open()
        await until(lambda: len(bench.backend.sent) == 1)
        monkeypatch.setattr(watch, "SILENCE", -1.0)
        bench.backend.say(None)
        await until(lambda: bench.backend.lives == 2)
        assert bench.backend.kills == 1
        assert "it sent no message" in str(bench.worker.status.detail)
        monkeypatch.undo()
        bench.backend.load()
        await until(lambda: len(bench.backend.sent) == 2)
        bench.backend.step(started(stream), finished(stream))
        assert (await last(stream)).reason == "length"

    run(scenario())
