"""The same request gives the same words: alone, in a storm, and after a restart of the engine."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.client import Worker
from gptj_demo.protocol import Finished, GenerationRequest, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings

REQUESTS = 300
CANCELLED = 60
STREAMS = 16
PATIENCE = 280.0

PROMPTS = (
    "Once upon a time there was a",
    "The king",
    "",
    '"Who are you?" said the',
    "One day the fox went into the forest to look for the golden bird, and when it had walked a "
    "long way it came to a little house. " * 6,
    "In the middle of the night the ",
)

Completion = tuple[str, tuple[int, ...], str]  # text, token ids, finish reason


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker(Settings(model="sample", max_num_seqs=STREAMS, max_waiting=10_000))
    worker.start()
    yield worker
    worker.stop()


def make_requests(count: int, seed: int) -> list[GenerationRequest]:
    """Requests of mixed prompts, lengths and settings, each with its seed."""
    generator = random.Random(seed)

    def maybe(**choices: Any) -> dict[str, Any]:
        return {
            name: generator.choice(values)
            for name, values in choices.items()
            if generator.random() < 0.25
        }

    return [
        GenerationRequest(
            generator.choice(PROMPTS),
            SamplingParams(
                seed=generator.randrange(2**32),
                max_new_tokens=generator.randrange(1, 40),
                **maybe(
                    temperature=(0.0, 0.3, 1.0, 1.5, 2.0),
                    top_p=(1.0, 0.5, 0.999),
                    top_k=(1, 5, 40, 500),
                    min_p=(0.05, 0.3),
                    typical_p=(0.3, 0.9),
                    epsilon_cutoff=(0.0003, 0.01),
                    eta_cutoff=(0.0003, 0.01),
                    xtc_probability=(0.5, 1.0),
                    repetition_penalty=(0.8, 1.2),
                    presence_penalty=(-1.0, 1.0),
                    frequency_penalty=(0.5,),
                    no_repeat_ngram_size=(2, 4),
                    dry_multiplier=(0.8,),
                    logit_bias=(((" king", 5.0),), ((7, -20.0), (" the", -3.0))),
                    bad_words=(("said", "little house"),),
                    min_new_tokens=(1,),
                    ignore_eos=(True,),
                    stop=((".",), ("\n", "the")),
                    token_healing=(True,),
                    echo=(True,),
                    logprobs=(0, 5),
                    n=(2, 3),
                ),
            ),
        )
        for _ in range(count)
    ]


async def complete(worker: Worker, request: GenerationRequest) -> list[Completion] | None:
    """All completions of a request; None where the engine died over it."""
    texts: dict[int, str] = {}
    token_ids: dict[int, list[int]] = {}
    reasons: dict[int, str] = {}
    async for event in worker.stream(request):
        if isinstance(event, TokenEvent):
            token_ids.setdefault(event.index, []).append(event.token_id)
        if isinstance(event, TokenEvent | Finished):
            texts[event.index] = texts.get(event.index, "") + event.text
        if isinstance(event, Finished):
            reasons[event.index] = event.reason
    if "error" in reasons.values():
        return None
    assert sorted(reasons) == list(range(request.params.n))
    return [(texts[i], tuple(token_ids.get(i, ())), reasons[i]) for i in sorted(reasons)]


async def cancel_after(worker: Worker, request: GenerationRequest, events: int) -> None:
    async with aclosing(worker.stream(request)) as stream:
        async for _ in stream:
            events -= 1
            if events == 0:
                return


async def storm(worker: Worker, requests: list[GenerationRequest]) -> list[list[Completion]]:
    """The requests in random order among others that are cancelled; the engine is killed once."""
    generator = random.Random(7)
    results: dict[int, list[Completion]] = {}
    slots = asyncio.Semaphore(2 * STREAMS)
    killed = False

    async def one(number: int) -> None:
        nonlocal killed
        while number not in results:
            async with slots:
                result = await complete(worker, requests[number])
            if result is not None:
                results[number] = result
            if len(results) >= len(requests) // 2 and not killed:
                killed = True
                assert worker.engine_pid is not None
                os.kill(worker.engine_pid, signal.SIGKILL)

    async def abandoned(request: GenerationRequest, events: int) -> None:
        async with slots:
            await cancel_after(worker, request, events)

    others = make_requests(CANCELLED, seed=99)
    tasks = [one(number) for number in range(len(requests))]
    tasks += [abandoned(other, generator.randrange(1, 12)) for other in others]
    generator.shuffle(tasks)
    await asyncio.gather(*tasks)
    assert killed
    return [results[number] for number in range(len(requests))]


def test_300_requests_give_the_same_texts_alone_and_concurrently(worker: Worker) -> None:
    requests = make_requests(REQUESTS, seed=1)

    async def scenario() -> None:
        alone = [await complete(worker, request) for request in requests]
        together = await storm(worker, requests)
        equal = sum(one == other for one, other in zip(alone, together, strict=True))
        print(f"{equal} of {REQUESTS} equal")
        assert equal == REQUESTS

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


def test_each_of_several_completions_can_be_had_alone_by_its_seed(worker: Worker) -> None:
    params = SamplingParams(seed=2**32 - 2, n=4, max_new_tokens=30)

    async def scenario() -> None:
        together = await complete(worker, GenerationRequest(PROMPTS[4], params))
        assert together is not None
        for index, completion in enumerate(together):
            own = params.model_copy(update={"n": 1, "seed": (2**32 - 2 + index) % 2**32})
            assert await complete(worker, GenerationRequest(PROMPTS[4], own)) == [completion]
        assert len(set(together)) == 4

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))


def test_the_first_start_has_the_results_of_all_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code rounds the same where it was just compiled and where it came out of the cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    params = SamplingParams(seed=5, max_new_tokens=60, logprobs=2, ignore_eos=True, n=2)
    request = GenerationRequest(PROMPTS[0], params)

    async def scenario(worker: Worker) -> list[tuple[int, int, Any]]:
        events = [event async for event in worker.stream(request)]
        tokens = [event for event in events if isinstance(event, TokenEvent)]
        return sorted((token.index, token.token_id, token.logprobs) for token in tokens)

    results = []
    for _ in range(2):
        worker = Worker(Settings(model="sample", max_num_seqs=2))
        worker.start()
        try:
            results.append(asyncio.run(asyncio.wait_for(scenario(worker), PATIENCE)))
        finally:
            worker.stop()
    assert results[0] == results[1]
