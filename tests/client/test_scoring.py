"""Scores of a continuation after prompts, against transformers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.client import RequestRefused, Worker, scoring
from gptj_demo.client.parts import read_kind
from gptj_demo.client.prompt import Ready
from gptj_demo.client.scoring import (
    Continuation,
    ContinuationScore,
    check_count,
    encode_continuation,
    encode_prompt,
    leave_out_each,
    most_parts,
    score_continuations,
)
from gptj_demo.control_values import InvalidControl
from gptj_demo.protocol import GenerationRequest, StreamEvent, Visitor
from gptj_demo.settings import Settings
from gptj_demo.texts import message
from gptj_demo.tokenization import Token, Vocabulary
from tests.client.requests import paused, run, until
from tests.engine.checkpoints import make_checkpoint
from tests.test_tokenization import added_with_spaces, vocabulary_with

CONTEXT = 128
ME = Visitor("me", "here")


def test_longer_texts_have_fewer_parts() -> None:
    assert most_parts(10) == scoring.MAX_PARTS
    assert most_parts(10**9) == 1
    for tokens in (100, 1000, 2048):
        assert (most_parts(tokens) + 1) * tokens <= scoring.MAX_TOKENS_READ


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), n_positions=CONTEXT)


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    """Two slots and one place in the queue: too few for all prompts of a test at once."""
    worker = Worker(Settings(model=str(folder), max_num_seqs=2, max_waiting=1))
    worker.start()
    run(until(lambda: worker.status.state == "ready"))
    yield worker
    worker.stop()


async def scores_of(
    worker: Worker, prompts: list[str], continuation: Continuation, **options: Any
) -> list[ContinuationScore]:
    ids = [await encode_prompt(worker, prompt) for prompt in prompts]
    found = {}
    async for one in score_continuations(worker, ids, continuation, visitor=ME, **options):
        if one is not None:
            assert one[0] not in found
            found[one[0]] = one[1]
    return [found[place] for place in range(len(prompts))]


def test_the_scores_are_those_of_transformers(worker: Worker, folder: Path) -> None:
    model = GPTJForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompts = ["Once upon a time", "", "A much longer beginning, with a comma", "\n"]

    async def scenario() -> None:
        fixed = await encode_continuation(worker, " there was a king")
        scores = await scores_of(worker, prompts, fixed, alternatives=3)
        for prompt, score in zip(prompts, scores, strict=True):
            before = await encode_prompt(worker, prompt)
            ids = torch.tensor([before + fixed.token_ids])
            with torch.inference_mode():
                logprobs = model(ids).logits[0, len(before) - 1 : -1].log_softmax(dim=-1)
            wanted = logprobs.gather(1, torch.tensor(fixed.token_ids)[:, None])[:, 0]
            scored = torch.tensor([one.logprob for one in score.logprobs])
            torch.testing.assert_close(scored, wanted, atol=1e-4, rtol=0)
            assert score.token_ids == fixed.token_ids
            assert score.prompt_tokens == len(before)
            assert [len(one.alternatives) for one in score.logprobs] == [3] * len(scored)
            assert score.sum_logprob == pytest.approx(float(wanted.sum()), abs=1e-3)
            assert score.mean_logprob == pytest.approx(float(wanted.mean()), abs=1e-4)
            size = len(b" there was a king")
            bits = -float(wanted.sum()) / math.log(2) / size
            assert score.bits_per_byte == pytest.approx(bits, abs=1e-3)

    run(scenario())


def test_more_prompts_than_the_queue_has_places_are_all_scored(worker: Worker) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        prompts = [f"Prompt {i}" for i in range(30)]
        scores = await scores_of(worker, prompts, fixed)
        alone = await scores_of(worker, prompts[-1:], fixed)
        assert scores[-1].sum_logprob == pytest.approx(alone[0].sum_logprob, abs=1e-4)
        assert worker.streams_running == worker.streams_waiting == 0

    run(scenario())


def test_as_many_prompts_as_before_are_scored_at_once_after_the_queue_was_full(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = worker.stream
    refusals, running = 2, 0
    at_once: list[int] = []

    async def crowded(request: GenerationRequest) -> AsyncIterator[StreamEvent]:
        nonlocal refusals, running
        if refusals and running:
            refusals -= 1
            raise RequestRefused("queue_full", message("refused.broken"))
        running += 1
        at_once.append(running)
        try:
            async with aclosing(stream(request)) as events:
                async for event in events:
                    yield event
        finally:
            running -= 1

    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        await scores_of(worker, [f"{i}. prompt" for i in range(12)], fixed)

    monkeypatch.setattr(worker, "stream", crowded)
    run(scenario())
    assert refusals == 0
    assert max(at_once) == 2  # one for each slot


def test_leaving_early_ends_the_engines_work(worker: Worker) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        ids = [await encode_prompt(worker, "x " * 40)] * 20
        scores = score_continuations(worker, ids, fixed, visitor=ME)
        assert await anext(scores) is not None
        with paused(worker):
            assert await anext(scores) is None  # the next two are in the engine
            assert worker.streams_waiting == 2
            await scores.aclose()
            assert worker.streams_running == worker.streams_waiting == 0

    run(scenario())


def test_generated_tokens_are_scored_if_they_decode_to_the_text(worker: Worker) -> None:
    async def scenario() -> None:
        text = "the"
        letters = [await worker.tokenize(letter) for letter in text]
        single = tuple(token.token_id for tokens in letters for token in tokens)
        assert await encode_continuation(worker, text, single) == (single, True, 3)
        known = (await encode_continuation(worker, text)).token_ids
        for wrong in ([1], [10**9], [-1], ["a"], [True, False]):
            assert await encode_continuation(worker, text, wrong) == (known, False, 3)

    run(scenario())


def test_the_first_prompt_of_an_attribution_is_the_whole_prompt(worker: Worker) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        plan = await leave_out_each(worker, "One two three", fixed, "words", "error")
        assert plan.parts == ["One", " two", " three"]
        texts = ["One two three", " two three", "One three", "One two"]
        assert plan.prompts == [await encode_prompt(worker, text) for text in texts]

    run(scenario())


def test_the_parts_of_a_truncated_prompt_are_those_that_are_read(worker: Worker) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        text = "First. " + "word " * 200 + "last."
        plan = await leave_out_each(worker, text, fixed, "auto", "left")
        assert plan.dropped_tokens > 0
        assert len(plan.prompts[0]) + len(fixed.token_ids) == CONTEXT
        assert text.endswith("".join(plan.parts))
        assert max(map(len, plan.prompts)) == len(plan.prompts[0])

    run(scenario())


class Tokenizing:
    """The part of a worker that tokenizes."""

    def __init__(self, vocabulary: Vocabulary, context_length: int = CONTEXT) -> None:
        self.vocabulary = vocabulary
        self.context_length = context_length

    def require_ready(self) -> Ready:
        return Ready(self.vocabulary, self.context_length)

    async def tokenize(self, text: str, *, begins: bool = True) -> list[Token]:
        encode = self.vocabulary.encode_prompt if begins else self.vocabulary.encode
        return self.vocabulary.tokens(encode(text), text)


def test_a_token_that_takes_spaces_counts_with_them() -> None:
    worker: Any = Tokenizing(vocabulary_with(added_with_spaces), 8)

    async def scenario() -> None:
        fixed = await encode_continuation(worker, "<mask>  x")
        assert len(fixed.token_ids) == 2
        assert fixed.size == 9
        plan = await leave_out_each(worker, "abc <mask>  one two", fixed, "words", "left")
        assert plan.dropped_tokens > 0
        assert "abc <mask>  one two".endswith("".join(plan.parts))
        longer = "y" * 20 + "<mask>   one"
        plan = await leave_out_each(worker, longer, fixed, "words", "left")
        assert "".join(plan.parts).endswith("<mask>   one")

    run(scenario())


def test_a_prompt_too_long_to_score_is_refused_or_cut_on_the_left(worker: Worker) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        long = "word " * 200
        with pytest.raises(RequestRefused, match=r"have [\d,]+ tokens together; .* reads 128") as e:
            await scores_of(worker, ["x", long], fixed)
        assert e.value.control == "truncate"
        score = (await scores_of(worker, [long], fixed, truncate="left"))[0]
        assert score.prompt_tokens + len(fixed.token_ids) == CONTEXT
        assert score.dropped_tokens == len(await encode_prompt(worker, long)) - score.prompt_tokens
        assert score.token_ids == fixed.token_ids

    run(scenario())


@pytest.mark.parametrize(
    ("continuation", "said"),
    [
        ("", "There is no continuation"),
        (None, "There is no continuation"),
        ("\ud800", "an unpaired surrogate"),
    ],
)
def test_an_empty_continuation_is_refused(worker: Worker, continuation: Any, said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        run(encode_continuation(worker, continuation))


def test_other_bad_input_is_refused_by_a_sentence(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        fixed = await encode_continuation(worker, " end")
        with pytest.raises(RequestRefused, match=r"continuation has .* Shorten the continuation"):
            await scores_of(worker, ["x"], await encode_continuation(worker, "word " * 200))
        with pytest.raises(RequestRefused, match="must be a text"):
            await encode_prompt(worker, 7)  # type: ignore[arg-type]
        with pytest.raises(RequestRefused, match="no prompt whose parts"):
            await leave_out_each(worker, "", fixed, "auto", "error")
        with pytest.raises(InvalidControl, match="error, left"):
            await scores_of(worker, ["x"], fixed, truncate="right")
        monkeypatch.setattr(scoring, "MAX_TOKENS_READ", 3)
        with pytest.raises(RequestRefused, match="at most 3 are read at once"):
            await scores_of(worker, ["Once upon a time"], fixed)

    run(scenario())
    for count in (0, 65):
        with pytest.raises(RequestRefused, match=f"there were {count}"):
            check_count(["x"] * count)
    with pytest.raises(RequestRefused, match='"letters"'):
        read_kind("letters")
