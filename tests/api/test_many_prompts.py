"""Requests of more prompts and completions than there are slots and places in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gptj_demo.api.choices import Shape
from gptj_demo.api.completions import Completions
from gptj_demo.api.errors import ApiError
from gptj_demo.client import Worker
from gptj_demo.protocol import GenerationRequest, Visitor
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.engine.checkpoints import make_checkpoint
from tests.waiting import PATIENCE, eventually

ME = Visitor("me", "me")
PROMPTS = [f"prompt {number}" for number in range(128)]


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Four slots; three requests may wait, two of them of one visitor."""
    folder = make_checkpoint(tmp_path_factory.mktemp("tiny"))
    worker = Worker(Settings(model=str(folder), max_num_seqs=4, max_waiting=3))
    worker.start()
    eventually(lambda: worker.status.state == "ready")
    yield worker
    worker.stop()


def run(worker: Worker, prompts: list[Any], **params: Any) -> list[dict[str, Any]]:
    """The choices of a request."""

    async def scenario() -> list[dict[str, Any]]:
        controls = SamplingParams(**{"max_new_tokens": 2, "seed": 1, **params})
        completions = Completions(worker, prompts, controls, Shape(echo=True), ME)
        try:
            await completions.begin()
            return await completions.whole()
        finally:
            await completions.aclose()

    return list(asyncio.run(asyncio.wait_for(scenario(), PATIENCE)))


def test_128_prompts_of_four_completions_end_in_order_on_four_slots(worker: Worker) -> None:
    choices = run(worker, PROMPTS, n=4)
    assert [choice["index"] for choice in choices] == list(range(512))
    for choice in choices:
        assert choice["text"].startswith(PROMPTS[choice["index"] // 4])
        assert choice["finish_reason"] in ("length", "stop")
    (alone,) = run(worker, [PROMPTS[77]], seed=3)
    assert choices[77 * 4 + 2]["text"] == alone["text"]


def test_prompts_are_tokenized_until_their_tokens_are_too_many(worker: Worker) -> None:
    params = SamplingParams(max_new_tokens=2, n=4)
    completions = Completions(worker, PROMPTS, params, Shape(), ME)

    async def scenario() -> None:
        each = [(await worker.count_tokens(prompt) or 0) + 4 * 2 for prompt in PROMPTS]
        assert await completions.count_most(sum(each)) == sum(each)
        assert await completions.count_most(sum(each[:3])) == sum(each[:4])
        assert await completions.count_most(sum(each[:3]) - 1) == sum(each[:3])

    asyncio.run(scenario())


def test_one_prompt_can_have_more_completions_than_there_are_slots(worker: Worker) -> None:
    choices = run(worker, ["a"], n=16, best_of=16)
    assert [choice["index"] for choice in choices] == list(range(16))


def test_a_too_long_prompt_among_many_is_refused_before_the_first_token(worker: Worker) -> None:
    with pytest.raises(ApiError) as refused:
        run(worker, [*PROMPTS[:-1], "x" * 100])
    assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
    assert "Retry-After" not in refused.value.headers
    eventually(lambda: worker.streams_running == worker.streams_waiting == 0)


def test_prompts_wait_while_requests_of_other_visitors_fill_the_queue(worker: Worker) -> None:
    async def scenario() -> None:
        slow = SamplingParams(max_new_tokens=60, ignore_eos=True, n=4)
        others = [
            worker.stream(GenerationRequest("b", slow, Visitor(f"other {number}", "there")))
            for number in range(5)
        ]
        controls = SamplingParams(max_new_tokens=2, ignore_eos=True)
        completions = Completions(worker, PROMPTS[:6], controls, Shape(), ME)
        try:
            await completions.begin()
            entered = [await anext(stream) for stream in others if worker.has_place(None)]
            assert entered, "others have places beside a request of many prompts"
            assert len(await completions.whole()) == 6
        finally:
            await completions.aclose()
            for stream in others:
                await stream.aclose()

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
