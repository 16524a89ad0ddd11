"""Turns and places of visitors, with a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.protocol import Visitor, Waiting
from gptj_demo.settings import Settings
from tests.client.requests import (
    collect,
    endless,
    ends,
    of,
    paused,
    request,
    run,
    started,
    until,
)


@pytest.fixture(scope="module")
def wide_worker(folder: Path) -> Iterator[Worker]:
    """Four slots, of which one visitor alone gets three, and room for eight to wait."""
    worker = Worker(Settings(model=str(folder), max_num_seqs=4, max_waiting=8))
    worker.start()
    run(until(lambda: worker.status.state == "ready"))
    yield worker
    worker.stop()


def test_the_visitor_with_fewer_requests_is_next_and_places_are_updated(worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:

            async def ask(visitor: str) -> Stream:
                stream = worker.stream(of(visitor))
                open_streams.push_async_callback(stream.aclose)
                return stream

            busy = [await ask("busy") for _ in range(4)]
            await asyncio.gather(started(busy[0]), started(busy[1]))
            with paused(worker):
                assert [await anext(stream) for stream in busy[2:]] == [Waiting(0), Waiting(1)]
                person = await ask("person")
                assert await anext(person) == Waiting(0)
                assert [await anext(stream) for stream in busy[2:]] == [Waiting(1), Waiting(2)]
                await busy[0].aclose()
            await started(person)
            with paused(worker):
                assert [await anext(stream) for stream in busy[2:]] == [Waiting(0), Waiting(1)]
                # with one running each, the one who came first is next
                await busy[1].aclose()
            await started(busy[2])
            assert await anext(busy[3]) == Waiting(0)

    run(scenario())


def test_one_visitor_leaves_a_slot_for_other_visitors(wide_worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:
            streams = [wide_worker.stream(of("busy")) for _ in range(5)]
            for stream in streams:
                open_streams.push_async_callback(stream.aclose)
            await asyncio.gather(*(started(stream) for stream in streams[:3]))
            with paused(wide_worker):
                assert [await anext(stream) for stream in streams[3:]] == [Waiting(0), Waiting(1)]
                assert wide_worker.streams_running == 3
            text, _ = await collect(wide_worker, of("person", request()))
            assert text
            assert wide_worker.streams_running == 3
            assert wide_worker.streams_waiting == 2
            await streams[0].aclose()
            await started(streams[3])

    run(scenario())


def test_one_visitor_cannot_fill_the_queue(wide_worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:

            async def ask(visitor: str) -> Stream:
                stream = wide_worker.stream(of(visitor))
                open_streams.push_async_callback(stream.aclose)
                await anext(stream)
                return stream

            await asyncio.gather(*[started(await ask("busy")) for _ in range(3)])
            with paused(wide_worker):
                for _ in range(7):  # six may wait, and one for the slot that is free
                    await ask("busy")
                with pytest.raises(RequestRefused, match="7 requests of yours") as refusal:
                    await ask("busy")
                assert refusal.value.kind == "queue_full"
                await ask("person")

    run(scenario())
    run(until(lambda: wide_worker.streams_running == wide_worker.streams_waiting == 0))


def test_many_sessions_of_one_address_leave_a_slot_on_a_public_playground(folder: Path) -> None:
    worker = Worker(Settings(model=str(folder), max_num_seqs=4, max_waiting=8, limits="public"))
    worker.start()

    async def scenario() -> None:
        await until(lambda: worker.status.state == "ready")
        async with AsyncExitStack() as open_streams:

            async def ask(number: int) -> Stream:
                visitor = Visitor(f"session {number}", "caller")
                stream = worker.stream(replace(endless(), visitor=visitor))
                open_streams.push_async_callback(stream.aclose)
                await anext(stream)
                return stream

            await asyncio.gather(*[started(await ask(number)) for number in range(3)])
            with paused(worker):
                for number in range(3, 10):
                    await ask(number)
                with pytest.raises(RequestRefused, match="7 requests of yours"):
                    await ask(10)
            text, _ = await collect(worker, of("person", request()))
            assert text

    try:
        run(scenario())
    finally:
        worker.stop()


def test_cancelling_a_queued_request_ends_its_stream_with_that_reason(worker: Worker) -> None:
    async def scenario() -> None:
        first, second = worker.stream(endless()), worker.stream(endless())
        async with aclosing(first), aclosing(second):
            await asyncio.gather(started(first), started(second))
            third = worker.stream(of("third", request(n=2)))
            with paused(worker):
                assert await anext(third) == Waiting(0)
                third.cancel()
            events = [event async for event in third]
            assert [(end.reason, end.index) for end in ends(events)] == [
                ("cancelled", 0),
                ("cancelled", 1),
            ]
            assert worker.streams_waiting == 0

    run(scenario())
