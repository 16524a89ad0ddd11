"""The worker and a real engine process: streams, cancelling, queues, death and restart."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    PromptScored,
    Started,
    StreamEvent,
    TokenEvent,
    Waiting,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.texts import quoted
from gptj_demo.worker import RequestRefused, Stream, Worker
from tests.engine.checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120.0  # seconds before a test that waits gives up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random GPT-J: fast, and never at a loss for another token."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), n_positions=2048)


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    """Two slots, and room for three to wait."""
    worker = Worker(Settings(model=str(folder), max_streams=2, max_waiting=3))
    worker.start()
    run(until(lambda: worker.status.state == "ready"))
    yield worker
    worker.stop()


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario, PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def request(prompt: str | tuple[int, ...] = "The lamp", **params: Any) -> GenerationRequest:
    values = {"max_new_tokens": 8, "seed": 1, **params}
    return GenerationRequest(prompt, SamplingParams(**values))


def endless() -> GenerationRequest:
    return request("x", max_new_tokens=2000, temperature=2.0, top_p=1.0)


async def collect(worker: Worker, what: GenerationRequest) -> tuple[str, Finished]:
    text = ""
    async for event in worker.stream(what):
        if isinstance(event, TokenEvent | Finished):
            text += event.text
    assert isinstance(event, Finished)
    return text, event


async def started(stream: Any) -> None:
    async for event in stream:
        if isinstance(event, Started):
            return


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


def test_the_same_seed_gives_the_same_text_alone_and_in_company(worker: Worker) -> None:
    async def scenario() -> None:
        alone = [(await collect(worker, request(seed=seed)))[0] for seed in range(4)]
        together = await asyncio.gather(*(collect(worker, request(seed=s)) for s in range(4)))
        assert [text for text, _ in together] == alone
        assert len(set(alone)) > 1

    run(scenario())


def test_without_a_seed_one_is_drawn_and_told_and_gives_the_same_text_again(
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


def test_the_context_ends_the_text_and_says_so(worker: Worker) -> None:
    _, finished = run(collect(worker, request((5,) * 2040, max_new_tokens=50)))
    assert (finished.reason, finished.completion_tokens) == ("length", 8)
    assert "context of 2,048 tokens is full" in str(finished.message)


@pytest.mark.parametrize(
    ("prompt", "kind", "said"),
    [
        ((5,) * 2048, "too_long", r"2,048 tokens.*Shorten the text by 1 token or more"),
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
def test_strange_characters_are_only_text(worker: Worker, prompt: str) -> None:
    assert run(collect(worker, request(prompt)))[1].reason in ("length", "stop")


def test_more_than_the_slots_wait_in_line_and_learn_their_places(worker: Worker) -> None:
    async def scenario() -> None:
        first, second = worker.stream(endless()), worker.stream(endless())
        async with aclosing(first), aclosing(second):
            await asyncio.gather(started(first), started(second))
            third, fourth = worker.stream(request()), worker.stream(request())
            async with aclosing(third), aclosing(fourth):
                assert await anext(third) == Waiting(0)
                assert await anext(fourth) == Waiting(1)
                await first.aclose()
                await started(third)
                assert await anext(fourth) == Waiting(0)
                await started(fourth)

    run(scenario())
    run(until(lambda: worker.streams_running == 0))


def test_one_more_than_may_wait_is_refused_politely_and_nobody_else_is(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(5)]
        try:
            await asyncio.gather(started(streams[0]), started(streams[1]))
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
        stream.cancel()
        events = [event async for event in stream]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "cancelled"
        assert events[-1].completion_tokens < 2000

    run(scenario())


def test_closing_a_stream_frees_its_slot_for_the_next(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(2)]
        await asyncio.gather(*(started(stream) for stream in streams))
        for stream in streams:
            await stream.aclose()
        texts = await asyncio.gather(*(collect(worker, request()) for _ in range(2)))
        assert all(finished.reason == "length" for _, finished in texts)

    run(scenario())


def test_a_task_that_is_cancelled_while_it_waits_for_words_leaves_nothing_behind(
    worker: Worker,
) -> None:
    async def read() -> None:
        async with aclosing(worker.stream(endless())) as stream:
            async for _ in stream:
                pass

    async def scenario() -> None:
        task = asyncio.create_task(read())
        await until(lambda: worker.streams_running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert worker.streams_running == 0

    run(scenario())


def test_drain_gives_what_has_come_and_nothing_after_the_time_is_over(worker: Worker) -> None:
    async def scenario() -> None:
        streams = [worker.stream(endless()) for _ in range(2)]
        await asyncio.gather(*(started(stream) for stream in streams))
        async with aclosing(worker.stream(request())) as third:
            assert await third.drain(1.0) == [Waiting(0)]
            assert await third.drain(0.01) == []
            for stream in streams:
                await stream.aclose()
            events = []
            while not third.done:
                events += await third.drain(1.0)
        assert isinstance(events[-1], Finished)

    run(scenario())


# ---- turns


@pytest.fixture(scope="module")
def wide_worker(folder: Path) -> Iterator[Worker]:
    """Four slots, of which one visitor alone gets three, and room for eight to wait."""
    worker = Worker(Settings(model=str(folder), max_streams=4, max_waiting=8))
    worker.start()
    run(until(lambda: worker.status.state == "ready"))
    yield worker
    worker.stop()


def of(visitor: str, what: GenerationRequest | None = None) -> GenerationRequest:
    return replace(what or endless(), visitor=visitor)


def test_who_has_less_in_hand_comes_first_and_the_others_learn_it(worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:

            async def ask(visitor: str) -> Stream:
                stream = worker.stream(of(visitor))
                open_streams.push_async_callback(stream.aclose)
                return stream

            busy = [await ask("busy") for _ in range(4)]
            await asyncio.gather(started(busy[0]), started(busy[1]))
            assert [await anext(stream) for stream in busy[2:]] == [Waiting(0), Waiting(1)]
            person = await ask("person")
            assert await anext(person) == Waiting(0)
            assert [await anext(stream) for stream in busy[2:]] == [Waiting(1), Waiting(2)]
            await busy[0].aclose()
            await started(person)
            assert [await anext(stream) for stream in busy[2:]] == [Waiting(0), Waiting(1)]
            # with one running each, the one who came first is next
            await busy[1].aclose()
            await started(busy[2])
            assert await anext(busy[3]) == Waiting(0)

    run(scenario())


def test_one_visitor_leaves_a_slot_for_somebody_else(wide_worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:
            streams = [wide_worker.stream(of("busy")) for _ in range(5)]
            for stream in streams:
                open_streams.push_async_callback(stream.aclose)
            await asyncio.gather(*(started(stream) for stream in streams[:3]))
            assert [await anext(stream) for stream in streams[3:]] == [Waiting(0), Waiting(1)]
            assert wide_worker.streams_running == 3
            text, _ = await collect(wide_worker, of("person", request()))
            assert text
            assert wide_worker.streams_running == 3
            assert wide_worker.streams_waiting == 2
            await streams[0].aclose()
            await started(streams[3])

    run(scenario())


def test_one_visitor_does_not_fill_the_line(wide_worker: Worker) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as open_streams:

            async def ask(visitor: str) -> None:
                stream = wide_worker.stream(of(visitor))
                open_streams.push_async_callback(stream.aclose)
                await anext(stream)

            for _ in range(3 + 7):  # three run; six may wait, and one for the slot that is free
                await ask("busy")
            await until(lambda: wide_worker.streams_running == 3)
            with pytest.raises(RequestRefused, match="7 requests of yours") as refusal:
                await ask("busy")
            assert refusal.value.kind == "queue_full"
            await ask("person")

    run(scenario())
    run(until(lambda: wide_worker.streams_running == wide_worker.streams_waiting == 0))


def test_cancelling_in_line_ends_the_stream_with_that_reason(worker: Worker) -> None:
    async def scenario() -> None:
        first, second = worker.stream(endless()), worker.stream(endless())
        async with aclosing(first), aclosing(second):
            await asyncio.gather(started(first), started(second))
            third = worker.stream(replace(request(n=2), visitor="third"))
            assert await anext(third) == Waiting(0)
            third.cancel()
            events = [event async for event in third]
            assert [(end.reason, end.index) for end in ends(events)] == [
                ("cancelled", 0),
                ("cancelled", 1),
            ]
            assert worker.streams_waiting == 0

    run(scenario())


# ---- several completions


async def everything(worker: Worker, what: GenerationRequest) -> list[StreamEvent]:
    return [event async for event in worker.stream(what)]


def ends(events: list[StreamEvent]) -> list[Finished]:
    return [event for event in events if isinstance(event, Finished)]


def tokens_of(events: list[StreamEvent], index: int) -> list[int]:
    return [e.token_id for e in events if isinstance(e, TokenEvent) and e.index == index]


def test_completions_stream_side_by_side_and_each_ends_with_its_own_seed(worker: Worker) -> None:
    events = run(everything(worker, request(n=2, seed=2**32 - 1)))
    order = [event.index for event in events if isinstance(event, TokenEvent)]
    assert sorted(order) == [0] * 8 + [1] * 8
    assert order != sorted(order)
    assert [(end.index, end.seed) for end in ends(events)] == [(0, 2**32 - 1), (1, 0)]
    assert sum(isinstance(event, Started) for event in events) == 1


def test_more_completions_than_slots_are_written_one_after_another(worker: Worker) -> None:
    events = run(everything(worker, request(n=5)))
    assert sorted(end.index for end in ends(events)) == [0, 1, 2, 3, 4]
    alone = run(everything(worker, request(seed=1 + 4)))
    assert tokens_of(events, 4) == tokens_of(alone, 0)


def test_best_of_gives_the_likeliest_of_its_candidates_best_first(worker: Worker) -> None:
    candidates = run(everything(worker, request(n=4, logprobs=0)))
    means = {end.index: end.mean_logprob for end in ends(candidates)}
    ranked = sorted(means, key=lambda index: -(means[index] or 0))
    events = run(everything(worker, request(n=2, best_of=4)))
    assert [end.index for end in ends(events)] == [0, 1]
    for place, candidate in enumerate(ranked[:2]):
        assert tokens_of(events, place) == tokens_of(candidates, candidate)
        assert ends(events)[place].seed == 1 + candidate
    drafted = [event.tokens for event in events if isinstance(event, Drafting)]
    assert drafted == list(range(1, 33))
    assert not any(isinstance(e, TokenEvent) and e.logprobs for e in events)  # not asked for


def test_cancelling_ends_every_completion(worker: Worker) -> None:
    async def scenario() -> None:
        params = endless().params.model_copy(update={"n": 4})
        stream = worker.stream(GenerationRequest("x", params))
        await started(stream)
        stream.cancel()
        events = [event async for event in stream]
        assert {end.index: end.reason for end in ends(events)} == dict.fromkeys(
            range(4), "cancelled"
        )

    run(scenario())
    assert worker.streams_running == 0


# ---- the edges of the prompt


def test_a_prompt_that_is_too_long_can_lose_its_beginning(worker: Worker) -> None:
    prompt = tuple(i % 200 for i in range(2500))
    events = run(everything(worker, request(prompt, truncate="left")))
    start = next(event for event in events if isinstance(event, Started))
    assert (start.prompt_tokens, start.dropped_tokens) == (2040, 460)
    end = ends(events)[0]
    assert (end.completion_tokens, end.reason) == (8, "length")
    assert "460 tokens of the text did not fit" in str(end.message)
    kept = run(everything(worker, request(prompt[460:])))
    assert tokens_of(events, 0) == tokens_of(kept, 0)


def test_at_least_half_of_the_context_is_read_however_much_is_to_be_written(
    worker: Worker,
) -> None:
    what = request((5,) * 1500, truncate="left", max_new_tokens=2000)

    async def scenario() -> None:
        async with aclosing(worker.stream(what)) as stream:
            async for event in stream:
                if isinstance(event, Started):
                    assert event.prompt_tokens == 1024
                    return

    run(scenario())


def test_a_text_can_be_scored_without_writing_anything(worker: Worker) -> None:
    what = request("The lamp was not lit", max_new_tokens=0, echo=True, logprobs=2)
    events = run(everything(worker, what))
    scored = next(event for event in events if isinstance(event, PromptScored))
    tokens = run(worker.tokenize("The lamp was not lit"))
    assert scored.token_ids == tuple(token.token_id for token in tokens)
    assert scored.logprobs[0] is None
    assert all(one is not None and len(one.alternatives) == 2 for one in scored.logprobs[1:])
    assert scored.sum_logprob == sum(one.logprob for one in scored.logprobs if one)
    assert ends(events)[0].completion_tokens == 0
    full = request((5,) * 2048, max_new_tokens=0, echo=True)
    assert ends(run(everything(worker, full)))[0].reason == "length"


def test_token_healing_goes_on_in_the_middle_of_a_word(worker: Worker) -> None:
    events = run(everything(worker, request("Once upon a time the la", token_healing=True)))
    start = next(event for event in events if isinstance(event, Started))
    assert start.healed_token_id is not None
    healed = worker.token_text(start.healed_token_id)
    assert "Once upon a time the la".endswith(healed)
    first = worker.token_text(tokens_of(events, 0)[0])
    assert first.startswith(healed)
    text = "".join(e.text for e in events if isinstance(e, TokenEvent | Finished))
    assert text.startswith(first[len(healed) :])


@pytest.mark.parametrize(
    ("control", "value", "said"),
    [
        ("logit_bias", ((300, 1.0),), "token id 300 is not in the vocabulary; ids are 0 to 299"),
        ("stop_token_ids", (4000,), "token id 4000"),
    ],
)
def test_a_control_that_names_no_token_is_refused_by_name(
    worker: Worker, control: str, value: Any, said: str
) -> None:
    with pytest.raises(RequestRefused, match=said) as refusal:
        run(collect(worker, request(**{control: value})))
    assert (refusal.value.kind, refusal.value.control) == ("invalid", control)


def test_the_tokens_of_any_text_can_be_asked_for_with_their_places(worker: Worker) -> None:
    tokens = run(worker.tokenize("The 🙂"))
    assert tokens[0].start == 0
    assert tokens[-1].end == len("The 🙂".encode())
    assert "\\xf0" in tokens[-4].text or "\\x9f" in tokens[-3].text


def test_kill_9_ends_open_streams_with_a_sentence_and_the_model_answers_again(
    worker: Worker,
) -> None:
    async def scenario() -> None:
        before, _ = await collect(worker, request())
        pid = worker.engine_pid
        assert pid is not None
        stream = worker.stream(endless())
        await started(stream)
        os.kill(pid, signal.SIGKILL)
        events = [event async for event in stream]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "error"
        assert "restarted" in str(events[-1].message)
        assert worker.status.state in ("restarting", "ready")
        # a request that comes in the meantime waits for the new engine and gets the same words
        after, _ = await collect(worker, request())
        assert after == before
        assert worker.engine_pid not in (None, pid)

    run(scenario())


def test_requests_made_while_the_model_loads_wait_and_are_answered_in_order(folder: Path) -> None:
    worker = Worker(Settings(model=str(folder), max_streams=1))

    async def scenario() -> None:
        streams = [worker.stream(request(seed=seed)) for seed in range(3)]
        places = [await anext(stream) for stream in streams]
        assert places == [Waiting(0), Waiting(1), Waiting(2)]
        worker.start()
        order: list[int] = []

        async def read(number: int) -> None:
            await started(streams[number])
            order.append(number)
            await streams[number].aclose()

        await asyncio.gather(*(read(number) for number in range(3)))
        assert order == [0, 1, 2]

    try:
        run(scenario())
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("model", "said"),
    [("/no/such/folder", "/no/such/folder"), (str(ROOT / "tests"), "config.json")],
)
def test_settings_that_cannot_work_stop_the_worker_with_a_sentence(model: str, said: str) -> None:
    worker = Worker(Settings(model=model))
    worker.start()
    message = worker.wait()
    assert message is not None
    assert said in message
    assert worker.status.state == "failed"
    with pytest.raises(RequestRefused, match=re.escape(model)) as refusal:
        run(collect(worker, request()))
    assert refusal.value.kind == "unavailable"


def test_the_engine_ends_when_its_parent_is_killed(folder: Path) -> None:
    """Even a parent that dies without a word leaves no process behind."""
    code = (
        "import sys, time; from gptj_demo.settings import Settings;"
        "from gptj_demo.worker import Worker;"
        f"w = Worker(Settings(model={str(folder)!r})); w.start()\n"
        "while w.engine_pid is None: time.sleep(0.01)\n"
        "print(w.engine_pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + PATIENCE
    while _alive(engine) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(engine)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
