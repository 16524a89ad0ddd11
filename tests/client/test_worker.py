"""The worker over a scripted backend: restarts, failures and the end, without an engine process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, dispatcher
from gptj_demo.protocol import (
    Cancel,
    Compiled,
    Refused,
    TokenEvent,
)
from gptj_demo.texts import message
from gptj_demo.tokenization import Token, Vocabulary
from tests.client.requests import run, until
from tests.client.scripted import TOKENIZER, Bench, finished, last, started, token


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


def test_the_tokens_of_a_long_text_are_made_in_a_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    encode, tokens = Vocabulary.encode_prompt, Vocabulary.tokens

    def noted_encode(*given: Any) -> list[int]:
        threads.append(threading.get_ident())
        return encode(*given)

    def noted(*given: Any) -> list[Token]:
        threads.append(threading.get_ident())
        return tokens(*given)

    monkeypatch.setattr(Vocabulary, "encode_prompt", noted_encode)
    monkeypatch.setattr(Vocabulary, "tokens", noted)

    async def scenario() -> None:
        bench.backend.load()
        await until(lambda: bench.worker.ready is not None)
        for text in ("lamp", "\U0001f642" * 1999, "lamp " * 2000, "\U0001f642" * 2000):
            assert len(await bench.worker.tokenize(text)) >= len(text) // 5
        is_here = [one == threading.get_ident() for one in threads]
        assert is_here == [True] * 4 + [False] * 4

    run(scenario())


def test_an_engine_that_has_compiled_its_code_is_started_again_once(bench: Bench) -> None:
    async def scenario() -> None:
        stream = await bench.open()
        bench.backend.say(TOKENIZER, Compiled())
        await until(lambda: bench.backend.lives == 2)
        assert bench.backend.submitted == []
        bench.backend.say(Compiled())
        bench.backend.load()
        await until(lambda: bench.backend.submitted == [stream.request_id])
        bench.backend.step(started(stream), finished(stream))
        assert (await last(stream)).reason == "length"
        assert (bench.backend.lives, bench.worker.restarts) == (2, 0)

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
