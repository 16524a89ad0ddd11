"""Scoring reuses cached prefixes and known scores: fewer tokens are read, scores are equal."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.scored_texts import ScoredTexts
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Finished, PromptScored, Submit, TokenLogprobs
from gptj_demo.sampling import SamplingParams
from tests.engine.forward import built, is_exact
from tests.engine.test_exactness import CASES

CASE = CASES["sample model"]
BUDGET = 64
GENERATOR = random.Random(11)


def some_tokens(count: int) -> tuple[int, ...]:
    return tuple(GENERATOR.choices(range(CASE.vocabulary), k=count))


PROMPT = some_tokens(200)
CONTINUATIONS = [some_tokens(count) for count in (1, 2, 7, 15)]


class Reader:
    """An engine, and how many tokens its model has read."""

    def __init__(self, streams: int = 4) -> None:
        self.runner = Runner(built(CASE.make()), streams, CASE.vocabulary)
        assert is_exact(self.runner.model)
        table = [b"xy"] * CASE.vocabulary
        context = self.runner.model.shape.context_length
        vocabulary = EngineVocabulary(
            table, CASE.vocabulary, context, bos_token_id=0, eos_token_ids=()
        )
        self.engine = Engine(self.runner, vocabulary, prefill_budget=BUDGET)
        self.read = 0
        self.number = 0
        forward = self.runner.model.forward

        def counting(cache: Any, batch: Any) -> Any:
            self.read += sum(len(chunk.token_ids) for chunk in batch.chunks)
            return forward(cache, batch)

        self.runner.model.forward = counting  # type: ignore[method-assign]

    def score(
        self, token_ids: tuple[int, ...], scored: int | None = None, **params: Any
    ) -> tuple[PromptScored, Finished, int]:
        """The score of a text, its end, and how many tokens were read for it."""
        self.number += 1
        given = {"echo": True, "logprobs": 2, "max_new_tokens": 0, **params}
        before = self.read
        self.engine.submit(
            Submit(self.number, token_ids, SamplingParams(**given), 1, scored_tokens=scored)
        )
        events = list(self.events())
        (found,) = (event for event in events if isinstance(event, PromptScored))
        (finished,) = (event for event in events if isinstance(event, Finished))
        return found, finished, self.read - before

    def events(self) -> Iterator[Any]:
        while not self.engine.is_idle:
            yield from self.engine.step()


@pytest.fixture(scope="module")
def alone() -> dict[tuple[int, ...], tuple[TokenLogprobs | None, ...]]:
    """The numbers of each text, read whole by an engine that has nothing in its cache."""
    found = {}
    for continuation in CONTINUATIONS:
        scored, finished, read = Reader(1).score(PROMPT + continuation)
        assert read == len(PROMPT + continuation)
        assert finished.cached_tokens == 0
        found[continuation] = scored.logprobs
    return found


@pytest.mark.parametrize("streams", [1, 4])
def test_continuations_of_one_prompt_read_it_once(alone: Any, streams: int) -> None:
    reader = Reader(streams)
    reads = []
    for continuation in CONTINUATIONS:
        count = len(continuation)
        scored, finished, read = reader.score(PROMPT + continuation, count)
        assert scored.logprobs[-count:] == alone[continuation][-count:]
        assert set(scored.logprobs[:-count]) == {None}
        assert scored.sum_logprob == sum(one.logprob for one in alone[continuation][-count:])
        assert finished.cached_tokens == len(PROMPT + continuation) - read
        reads.append(read)
    # the prompt's last token is read each time: the logits after it are the first wanted ones
    assert reads == [201, 3, 8, 16]
    assert sum(len(PROMPT + one) for one in CONTINUATIONS) == 825, "tokens without the cache"


def test_scoring_a_text_again_computes_only_its_new_tokens(alone: Any) -> None:
    reader = Reader()
    text = PROMPT + CONTINUATIONS[3]
    reads = []
    for length in (120, 200, 215, 215, 150):
        scored, _, read = reader.score(text[:length])
        assert scored.logprobs == alone[CONTINUATIONS[3]][:length]
        reads.append(read)
    assert reads == [120, 81, 16, 2, 2]
    other, _, read = reader.score(text, logprobs=0)  # these numbers are not kept
    assert read == len(text)
    assert other.sum_logprob == scored_sum(alone[CONTINUATIONS[3]])


def scored_sum(scores: tuple[TokenLogprobs | None, ...]) -> float:
    return sum(one.logprob for one in scores if one is not None)


def test_scores_are_reused_for_a_generation_from_the_same_text(
    alone: Any,
) -> None:
    reader = Reader()
    text = PROMPT + CONTINUATIONS[2]
    greedy = {"max_new_tokens": 5, "temperature": 0.0}
    first, finished, read = reader.score(text, **greedy)
    again, same, less = reader.score(text, **greedy)
    assert (read, less) == (len(text), 2)
    assert first.logprobs == again.logprobs == alone[CONTINUATIONS[2]]
    assert finished.sum_logprob == same.sum_logprob


def test_a_text_scored_as_nan_is_not_cached(monkeypatch: pytest.MonkeyPatch, alone: Any) -> None:
    reader = Reader()
    text = PROMPT + CONTINUATIONS[0]
    forward = reader.runner.model.forward
    with monkeypatch.context() as patched:
        patched.setattr(
            reader.runner.model, "forward", lambda cache, batch: forward(cache, batch) * math.nan
        )
        reader.engine.submit(Submit(9, text, SamplingParams(echo=True, max_new_tokens=0), 1))
        ends = [event for event in reader.events() if isinstance(event, Finished)]
    assert [end.reason for end in ends] == ["error"]
    reads = []
    for _ in range(2):  # the second one reuses the first one's prefix
        scored, _, read = reader.score(text)
        assert scored.logprobs == alone[CONTINUATIONS[0]]
        reads.append(read)
    assert reads == [len(text), 2]


def scores(count: int) -> list[TokenLogprobs]:
    return [TokenLogprobs(-float(place), None, 1, ()) for place in range(count)]


def test_the_scores_of_the_longest_common_beginning_are_found() -> None:
    texts = ScoredTexts()
    texts.keep((1, 2, 3, 4, 5), 2, scores(4))
    texts.keep((1, 2, 9), 2, scores(2))
    assert texts.find((1, 2, 3, 4, 7, 8), 2) == scores(3)
    assert texts.find((1, 2, 9, 9), 2) == scores(2)
    assert texts.find((1, 2, 3, 4, 5), 0) == []
    assert texts.find((2, 2), 2) == []


def test_kept_scores_are_bounded() -> None:
    texts = ScoredTexts(max_numbers=100)
    texts.keep((1, *range(100)), 0, scores(100))
    texts.keep((2, *range(10)), 4, scores(10))
    assert texts.find((1, 0, 1), 0) == []
    assert texts.find((2, 0, 1), 4) == scores(2)
    texts.keep((3, *range(200)), 0, scores(200))
    assert texts.find((3, 0), 0) == []
    for number in range(40):
        texts.keep((number + 10, 1), 0, scores(1))
    assert texts.find((10, 1), 0) == []
    assert texts.find((49, 1), 0) == scores(1)
    assert texts.find((49, 1, 2), 0) == scores(1)
