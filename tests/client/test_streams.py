"""Streams of a worker with a real engine: how they start, wait, end and are closed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.protocol import (
    Finished,
    Started,
    TokenEvent,
    Waiting,
)
from gptj_demo.texts import quoted
from tests.client.requests import (
    collect,
    endless,
    paused,
    request,
    run,
    started,
    until,
)


def test_a_stream_waits_starts_writes_and_ends_with_a_reason(worker: Worker) -> None:
    async def scenario() -> list[Any]:
        return [event async for event in worker.stream(request())]

    events = run(scenario())
    assert isinstance(events[0], Waiting)
    assert events[1] == Started(events[1].request_id, prompt_tokens=events[-1].prompt_tokens)
    assert all(isinstance(event, TokenEvent) for event in events[2:-1])
    last = events[-1]
    assert (last.reason, last.completion_tokens, last.seed) == ("length", 8, 1)
    assert str(last.message).endswith(".")


def test_a_seed_gives_the_same_text_alone_and_in_a_batch(worker: Worker) -> None:
    async def scenario() -> None:
        alone = [(await collect(worker, request(seed=seed)))[0] for seed in range(4)]
        together = await asyncio.gather(*(collect(worker, request(seed=s)) for s in range(4)))
        assert [text for text, _ in together] == alone
        assert len(set(alone)) > 1

    run(scenario())


def test_a_drawn_seed_is_reported_and_reproduces_the_text(
    worker: Worker,
) -> None:
    async def scenario() -> None:
        text, finished = await collect(worker, request(seed=None))
        again, _ = await collect(worker, request(seed=finished.seed))
        assert again == text

    run(scenario())


def test_an_empty_prompt_starts_from_the_end_of_text_token(worker: Worker) -> None:
    assert worker.model is not None
    text, finished = run(collect(worker, request("")))
    assert finished.prompt_tokens == 1
    assert text == run(collect(worker, request((worker.model.bos_token_id,))))[0]


def test_a_stop_string_ends_the_text_before_it(worker: Worker) -> None:
    text, _ = run(collect(worker, request(max_new_tokens=40)))
    stop = text[10:13]
    cut, finished = run(collect(worker, request(max_new_tokens=40, stop=(stop,))))
    assert cut == text[: text.index(stop)]
    assert finished.reason == "stop"
    assert quoted(stop) in str(finished.message)


def test_a_full_context_ends_the_text_with_a_reason(worker: Worker) -> None:
    _, finished = run(collect(worker, request((5,) * 2040, max_new_tokens=50)))
    assert (finished.reason, finished.completion_tokens) == ("length", 8)
    assert "context of 2,048 tokens is full" in str(finished.message)


@pytest.mark.parametrize(
    ("prompt", "kind", "said"),
    [
        ((5,) * 2049, "too_long", r"2,049 tokens.*Shorten the text by 1 token or more"),
        ("word " * 50_000, "too_long", r"250,000 characters.*200,000.*2,048 tokens"),
        ("a \ud83d b", "invalid", r"Character 3 .*U\+D83D"),
        ((0, 319), "invalid", r"Token id 319.*0 to 299"),
        ((-1,), "invalid", r"Token id -1"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_with_the_reason(
    worker: Worker, prompt: Any, kind: str, said: str
) -> None:
    with pytest.raises(RequestRefused, match=said) as refusal:
        run(collect(worker, request(prompt)))
    assert refusal.value.kind == kind
    assert worker.streams_running == worker.streams_waiting == 0
    assert run(collect(worker, request()))[1].reason == "length"  # and the worker is unharmed


@pytest.mark.parametrize("prompt", ["\x00\x01\x7f\r\n", "<|endoftext|>", "🙂" * 50, " " * 500])
def test_unusual_characters_are_accepted_as_text(worker: Worker, prompt: str) -> None:
    assert run(collect(worker, request(prompt)))[1].reason in ("length", "stop")


def test_requests_beyond_the_slots_are_queued_and_report_their_places(worker: Worker) -> None:
    async def scenario() -> None:
        first, second = worker.stream(endless()), worker.stream(endless())
        async with aclosing(first), aclosing(second):
            await asyncio.gather(started(first), started(second))
            third, fourth = worker.stream(request()), worker.stream(request())
            async with aclosing(third), aclosing(fourth):
                with paused(worker):
                    assert await anext(third) == Waiting(0)
                    assert await anext(fourth) == Waiting(1)
                    await first.aclose()
                await started(third)
                assert await anext(fourth) == Waiting(0)
                await started(fourth)

    run(scenario())
    run(until(lambda: worker.streams_running == 0))


def test_only_the_request_beyond_the_queues_limit_is_refused(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(5)]
        try:
            await asyncio.gather(started(streams[0]), started(streams[1]))
            with paused(worker):
                for stream in streams[2:]:
                    assert isinstance(await anext(stream), Waiting)
                with pytest.raises(RequestRefused, match="3 requests are waiting") as refusal:
                    await collect(worker, request())
            assert refusal.value.kind == "queue_full"
            assert isinstance(await anext(streams[0]), TokenEvent)
        finally:
            for stream in streams:
                await stream.aclose()

    run(scenario())


def test_cancelling_ends_the_stream_with_that_reason(worker: Worker) -> None:
    async def scenario() -> None:
        stream = worker.stream(endless())
        await started(stream)
        with paused(worker):
            stream.cancel()
        events = [event async for event in stream]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "cancelled"
        assert events[-1].completion_tokens < 2000

    run(scenario())


def test_closing_a_stream_ends_the_wait_of_its_reader(worker: Worker) -> None:
    async def scenario() -> None:
        stream = worker.stream(request())
        with paused(worker):
            assert isinstance(await anext(stream), Waiting)
            waits = asyncio.ensure_future(collect_rest(stream))
            await asyncio.sleep(0)
            await stream.aclose()
            assert await waits == []

    async def collect_rest(stream: Any) -> list[Any]:
        return [event async for event in stream]

    run(scenario())


def test_closing_a_stream_frees_its_slot_for_the_next(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(2)]
        await asyncio.gather(*(started(stream) for stream in streams))
        with paused(worker):
            assert worker.streams_running == 2
            for stream in streams:
                await stream.aclose()
            assert worker.streams_running == 0
        texts = await asyncio.gather(*(collect(worker, request()) for _ in range(2)))
        assert all(finished.reason == "length" for _, finished in texts)

    run(scenario())


def test_cancelling_a_task_that_waits_for_tokens_ends_its_request(
    worker: Worker,
) -> None:
    async def read() -> None:
        async with aclosing(worker.stream(endless())) as stream:
            async for _ in stream:
                pass

    async def scenario() -> None:
        task = asyncio.create_task(read())
        await until(lambda: worker.streams_running == 1)
        with paused(worker):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert worker.streams_running == 0

    run(scenario())


def test_drain_returns_the_events_so_far_or_none_after_the_timeout(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(2)]
        await asyncio.gather(*(started(stream) for stream in streams))
        async with aclosing(worker.stream(request())) as third:
            with paused(worker):
                assert await third.drain(1.0) == [Waiting(0)]
                assert await third.drain(0.01) == []
                for stream in streams:
                    await stream.aclose()
            events = []
            while not third.done:
                events += await third.drain(1.0)
        assert isinstance(events[-1], Finished)

    run(scenario())
