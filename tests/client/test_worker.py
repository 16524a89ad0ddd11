"""The worker over a scripted backend: restarts, failures and the end, without an engine process."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Generator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, Stream, Worker, dispatcher, watch
from gptj_demo.client.backends.base import EngineMessage, Health
from gptj_demo.client.progress import MOST_DEATHS
from gptj_demo.client.worker import MOST_FAILURES
from gptj_demo.protocol import (
    Cancel,
    EngineStatus,
    Finished,
    FinishReason,
    ModelInfo,
    Reconnecting,
    Refused,
    Started,
    StepEvents,
    Submit,
    TokenEvent,
    TokenizerReady,
    Waiting,
    Written,
)
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message
from tests.client.requests import request, run, until
from tests.engine.checkpoints import TEXT_TOKENS, make_tokenizer

END = TEXT_TOKENS - 1
_END = object()  # of an engine's messages
TOKENIZER = TokenizerReady(make_tokenizer().to_str(), 64, TEXT_TOKENS, END, (END,), ())


class ScriptedBackend:
    """An engine that sends what a test tells it to."""

    def __init__(self) -> None:
        self.lives = self.kills = 0
        self.sent: list[Submit | Cancel] = []
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self) -> None:
        self.lives += 1

    def send(self, message: Submit | Cancel) -> None:
        self.sent.append(message)

    def events(self) -> Generator[EngineMessage | None, None, None]:
        while (received := self._messages.get()) is not _END:
            yield received

    def wait(self) -> Message:
        return message("exit.code", code="3")

    def health(self) -> Health:
        return Health(None)

    def stop(self) -> None:
        self._messages.put(_END)

    def kill(self) -> None:
        self.kills += 1

    # ---- for the tests

    def say(self, *messages: object) -> None:
        for one in messages:
            self._messages.put(one)

    def load(self, slots: int = 2, precision: str = "float32") -> None:
        """Go through what an engine sends until it is ready."""
        model = ModelInfo(
            name="scripted",
            revision=None,
            is_sample=False,
            precision=precision,
            device="cpu",
            device_name="none",
            forward_path="eager",
            parameters=1,
            weight_bytes=4,
            context_length=64,
            vocabulary_size=TEXT_TOKENS,
            bos_token_id=END,
            max_streams=slots,
            why=message("status.warming_up"),
        )
        self.say(TOKENIZER, EngineStatus("ready", message("status.warming_up"), model=model))

    def step(self, *events: Any) -> None:
        self.say(StepEvents(events))

    @property
    def submits(self) -> list[Submit]:
        return [one for one in self.sent if isinstance(one, Submit)]

    @property
    def submitted(self) -> list[int]:
        return [one.request_id for one in self.submits]


class Bench:
    """A worker over a scripted backend, and the streams that a test opens."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        self.worker = Worker(Settings(max_waiting=8), self.backend)
        self.worker.start()

    async def open(self, **params: Any) -> Stream:
        stream = self.worker.stream(request("A", **params))
        assert isinstance(await anext(stream), Waiting)
        return stream


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.worker.stop()


def started(stream: Stream) -> Started:
    return Started(stream.request_id, prompt_tokens=1)


def token(stream: Stream, index: int = 0) -> TokenEvent:
    return TokenEvent(stream.request_id, 5, "A", index)


def finished(stream: Stream, reason: FinishReason = "length") -> Finished:
    return Finished(stream.request_id, reason, message("end.model"), "", 1, 1, stream.seed)


async def last(stream: Stream) -> Finished:
    events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_a_request_made_before_the_engine_is_ready_is_submitted_when_it_is(bench: Bench) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        assert bench.backend.sent == []
        bench.backend.load()
        await until(lambda: bench.backend.submitted == [stream.request_id])
        assert stream.submitted is bench.backend.sent[0]
        assert stream.submitted.seed == stream.seed
        bench.backend.step(started(stream), token(stream), finished(stream))
        assert (await last(stream)).reason == "length"

    run(scenario())


def test_a_stream_goes_on_in_the_next_engine_and_the_others_wait_behind_it(bench: Bench) -> None:
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


def test_requests_that_got_nothing_from_two_engines_go_on_one_at_a_time(bench: Bench) -> None:
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
        for life in range(2, 2 + MOST_FAILURES):
            bench.backend.stop()
            await until(lambda life=life: bench.backend.lives == life or stream.over)
        end = await last(stream)
        assert (end.reason, end.message.code) == ("error", "end.restarted")

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
        assert "nothing came from it" in str(bench.worker.status.detail)
        monkeypatch.undo()
        bench.backend.load()
        await until(lambda: len(bench.backend.sent) == 2)
        bench.backend.step(started(stream), finished(stream))
        assert (await last(stream)).reason == "length"

    run(scenario())


def test_stopping_ends_every_stream_and_refuses_new_ones(bench: Bench) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=1)
        streams = [await bench.open() for _ in range(3)]
        await asyncio.to_thread(bench.worker.stop)
        for stream in streams:
            end = await last(stream)
            assert (end.reason, end.message.code) == ("error", "end.shutting_down")
        with pytest.raises(RequestRefused) as refusal:
            await bench.open()
        assert refusal.value.kind == "unavailable"

    run(scenario())


def test_a_refusal_ends_the_streams_that_wait_with_its_reason(bench: Bench) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        bench.backend.say(Refused(message("status.warming_up")))
        bench.backend.stop()
        assert (await last(stream)).message.code == "status.refused"
        assert await asyncio.to_thread(bench.worker.wait) == str(message("status.warming_up"))

    run(scenario())


def test_an_engine_that_ends_twice_in_one_way_before_it_is_ready_is_given_up(
    bench: Bench,
) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        for life in (1, 2):
            await until(lambda life=life: bench.backend.lives == life)
            bench.backend.stop()
        assert (await last(stream)).message.code == "status.ended_twice"
        why = await asyncio.to_thread(bench.worker.wait)
        assert why is not None
        assert "exit code 3" in why
        assert (bench.worker.status.state, str(bench.worker.status.detail)) == ("failed", why)
        with pytest.raises(RequestRefused, match="exit code 3"):
            await bench.open()
        assert bench.backend.lives == 2

    run(scenario())


def test_a_refusal_after_a_failure_is_final_if_no_engine_was_ready(bench: Bench) -> None:
    bench.backend.stop()
    run(until(lambda: bench.worker.status.state == "restarting"))
    bench.backend.say(Refused("No."))
    bench.backend.stop()
    assert bench.worker.wait() == "No."


def test_a_refusal_after_the_model_has_been_ready_is_tried_again(bench: Bench) -> None:
    bench.backend.load()
    run(until(lambda: bench.worker.status.state == "ready"))
    bench.backend.stop()
    run(until(lambda: bench.backend.lives == 2))
    bench.backend.say(Refused("No."))
    bench.backend.stop()
    run(until(lambda: bench.backend.lives == 3))
    bench.backend.load()
    run(until(lambda: bench.worker.status.state == "ready"))


def test_a_step_calls_into_the_event_loop_once_however_many_streams(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        bench.backend.load(slots=8)
        streams = [await bench.open() for _ in range(7)]
        await until(lambda: len(bench.backend.sent) == 7)
        calls = 0
        call = dispatcher._call_in_loop

        def counting(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            call(*arguments)

        monkeypatch.setattr(dispatcher, "_call_in_loop", counting)
        bench.backend.step(*map(started, streams), *map(token, streams))
        for stream in streams:
            while not isinstance(await anext(stream), TokenEvent):
                pass
        assert calls == 1

    run(scenario())


def test_a_closed_stream_is_cancelled_and_its_slot_goes_to_the_next(bench: Bench) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as streams:
            bench.backend.load(slots=1)
            first, second = await bench.open(), await bench.open()
            streams.push_async_callback(second.aclose)
            await until(lambda: bench.backend.submitted == [first.request_id])
            await first.aclose()
            assert bench.backend.sent[-2] == Cancel(first.request_id)
            assert bench.backend.submitted == [first.request_id, second.request_id]

    run(scenario())
