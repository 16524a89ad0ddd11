"""Requests that lapse or are lost with one of several engines, while the others stay."""

from __future__ import annotations

import pytest

from gptj_demo.client import RequestRefused
from gptj_demo.client.progress import MOST_DEATHS
from gptj_demo.protocol import Finished, Reconnecting, Started, TokenEvent, Written
from gptj_demo.returned import Lapsed, Lost
from gptj_demo.texts import message
from tests.client.requests import run, until
from tests.client.scripted import Bench, finished, last, started, token


def test_a_lapsed_request_is_resumed_at_once_and_other_requests_are_untouched(
    bench: Bench,
) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=4)
        first, second = await bench.open(), await bench.open()
        await until(lambda: len(bench.backend.submits) == 2)
        bench.backend.step(started(first), token(first), started(second))
        bench.backend.say(Lapsed((first.request_id,), message("lease.nothing"), False))
        await until(lambda: len(bench.backend.submits) == 3)
        again = bench.backend.submits[2]
        assert again.request_id == first.request_id
        assert again.resumption is not None
        assert again.resumption.written == {0: Written((5,))}
        bench.backend.step(started(first), finished(first), finished(second))
        assert [type(event) async for event in first] == [
            Started, TokenEvent, Reconnecting, Finished,
        ]  # fmt: skip
        assert [type(event) async for event in second] == [Started, Finished]
        assert bench.worker.restarts == 0
        assert bench.backend.lives == 1

    run(scenario())


def test_a_request_that_lapses_too_often_ends_with_an_error(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream = await bench.open()
        for count in range(1, MOST_DEATHS + 2):
            await until(lambda count=count: len(bench.backend.submits) == count)  # type: ignore[misc]
            bench.backend.say(Lapsed((stream.request_id,), message("lease.nothing"), False))
        end = await last(stream)
        assert (end.reason, end.message.code) == ("error", "lease.nothing")

    run(scenario())


def test_requests_that_lapse_twice_are_suspected_and_resumed_one_at_a_time(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=4)
        streams = [await bench.open(), await bench.open()]
        first, second = (stream.request_id for stream in streams)
        for count in (2, 4):
            await until(lambda count=count: len(bench.backend.submits) == count)  # type: ignore[misc]
            bench.backend.say(Lapsed((first, second), message("lease.nothing"), True))
        await until(lambda: bench.backend.submitted[4:] == [first])
        bench.backend.step(started(streams[0]), token(streams[0]))
        await until(lambda: bench.backend.submitted[4:] == [first, second])

    run(scenario())


def test_a_cancelled_request_that_lapses_is_over(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load()
        stream = await bench.open()
        await until(lambda: len(bench.backend.submits) == 1)
        stream.cancel()
        bench.backend.say(Lapsed((stream.request_id,), message("lease.nothing"), False))
        assert (await last(stream)).reason == "cancelled"
        assert len(bench.backend.submits) == 1

    run(scenario())


def test_a_lost_request_ends_with_the_reason_or_is_refused_before_it_started(
    bench: Bench,
) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=2)
        begun, waiting = await bench.open(), await bench.open()
        await until(lambda: len(bench.backend.submits) == 2)
        bench.backend.step(started(begun), token(begun))
        ids = (begun.request_id, waiting.request_id)
        bench.backend.say(Lost(ids, "queue_full", message("lease.no_gpu")))
        end = await last(begun)
        assert (end.reason, end.message.code) == ("error", "lease.no_gpu")
        assert end.completion_tokens == 1
        with pytest.raises(RequestRefused) as refused:
            await last(waiting)
        assert refused.value.kind == "queue_full"
        next_one = await bench.open()
        await until(lambda: len(bench.backend.submits) == 3)
        bench.backend.step(started(next_one), finished(next_one))
        assert (await last(next_one)).reason == "length"

    run(scenario())
