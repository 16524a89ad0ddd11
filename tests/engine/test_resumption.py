"""A request that another engine goes on with gets the events that the first one would have sent.

Requests of every kind run to their end. Then each is resumed in a new engine from every step on,
with what the client keeps of the events up to that step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gptj_demo.client.progress import Progress
from gptj_demo.protocol import (
    EngineEvent,
    Expansion,
    Finished,
    PromptScored,
    Resumption,
    Started,
    Submit,
    TokenEvent,
    Written,
)
from tests.engine.bench import DRAWN, END, A, B, Bench, C, D, request

PROMPT = (A, B, C, A, B, C, A, B, D, A, B, C)

KINDS: dict[str, dict[str, Any]] = {
    "drawn": {},
    "greedy": {"temperature": 0},
    "penalties": {"repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.3},
    "n-grams": {"no_repeat_ngram_size": 2},
    "dry": {"dry_multiplier": 0.8, "dry_allowed_length": 1},
    "mirostat": {"mirostat": "2", "mirostat_tau": 3.0, "mirostat_eta": 0.3},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    "all filters": {"top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9, "tfs": 0.95},
    "healed": {"token_healing": True},
    "probabilities": {"logprobs": 3},
    "echo": {"echo": True, "logprobs": 2, "n": 2},
    "several": {"n": 3},
    "best of": {"best_of": 4},
    "best of, mirostat": {"best_of": 3, "n": 2, "mirostat": "2"},
    "ends": {"ignore_eos": False, "logit_bias": (((END,), 3.0),)},
    "least": {"min_new_tokens": 5, "stop_token_ids": (A,)},
    "matches": {"must_match": "regex", "must_match_text": "([A-D]+ ?é?){4}", "n": 2},
    "matches, healed": {
        "must_match": "choices",
        "must_match_text": "ABCABC\nDAD\nBBBBBBBBBBBB",
        "token_healing": True,
    },
    "matches, best of": {"must_match": "regex", "must_match_text": "[a-z]{1,9}", "best_of": 3},
    "few": {"max_new_tokens": 1},
    "none": {"max_new_tokens": 0, "echo": True, "logprobs": 1},
}


def events_by_step(what: Submit) -> list[list[EngineEvent]]:
    """The events of each step of an engine of its own."""
    bench = Bench()
    bench.submit(what)
    steps = []
    while not bench.engine.is_idle:
        steps.append(bench.engine.step())
    return steps


def delivered(progress: Progress, steps: list[list[EngineEvent]]) -> list[EngineEvent]:
    """The events of these steps that a stream gets."""
    kept = (progress.add(event, 0.0) for step in steps for event in step)
    return [event for event in kept if event is not None]


def comparable(events: list[EngineEvent]) -> dict[int, list[Any]]:
    """The events of each completion in their order; `cached_tokens` may differ."""
    by_index: dict[int, list[Any]] = {}
    for event in events:
        match event:
            case Finished():
                text, reason, end = event.text, event.reason, str(event.message)
                numbers = event.completion_tokens, event.prompt_tokens, event.seed
                rest = event.sum_logprob, event.end_token_id, event.end_logprobs
                shown: Any = (text, reason, end, numbers, rest)
            case TokenEvent():
                shown = (event.token_id, event.text, event.logprobs, event.filtered_away)
            case Started() | PromptScored():
                shown = event
        by_index.setdefault(getattr(event, "index", -1), []).append(shown)
    return by_index


def resumed(progress: Progress, now: float) -> Submit:
    """The message to the next engine after one has ended."""
    progress.suspend()
    return progress.next_part(99, now)


def check(what: Submit) -> None:
    whole = events_by_step(what)
    expected = comparable(delivered(Progress(what), whole))
    for cut in range(len(whole)):
        progress = Progress(what)
        before = delivered(progress, whole[:cut])
        after = delivered(progress, events_by_step(resumed(progress, 0.0)))
        assert comparable(before + after) == expected, cut


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_request_gives_the_same_events_as_an_uninterrupted_one(kind: str) -> None:
    values = {**DRAWN, "max_new_tokens": 12, **KINDS[kind]}
    check(request(1, PROMPT, **values))


@pytest.mark.parametrize("kind", ["several", "best of, mirostat", "echo", "healed"])
def test_completions_that_come_later_are_those_of_the_whole_request(kind: str) -> None:
    what = request(1, PROMPT, **{**DRAWN, "n": 2, **KINDS[kind]})
    expected = comparable(delivered(Progress(what), events_by_step(what)))
    count = what.params.candidates
    for later in (1, 3, 99):  # the steps of the first completion before the next one comes
        progress = Progress(what)
        bench = Bench()
        got: list[EngineEvent] = []
        for _ in range(count):
            bench.submit(progress.next_part(1, 0.0))
            for _ in range(later):
                if not bench.engine.is_idle:
                    got += delivered(progress, [bench.engine.step()])
        while not bench.engine.is_idle:
            got += delivered(progress, [bench.engine.step()])
        assert comparable(got) == expected, later


def test_a_stop_string_that_straddles_the_end_of_an_engine_is_found() -> None:
    check(request(1, writes=(A, B, C, D, A), stop=("BCD",)))


def test_text_that_was_held_back_is_not_lost() -> None:
    check(request(1, writes=(A, B, C, A, B, C), stop=("ABCD",), max_new_tokens=6))


def test_the_time_before_the_end_of_an_engine_counts() -> None:
    what = request(1, max_time=10.0, max_new_tokens=30)
    progress = Progress(what)
    delivered(progress, events_by_step(what)[:3])
    bench = Bench()
    bench.run(resumed(progress, 11.0))
    end = bench.end(1)
    assert end.message.code == "end.time"
    assert end.completion_tokens == len(resumed(progress, 0.0).resumption.written[0].token_ids) + 1  # type: ignore[union-attr]


def test_resumed_requests_in_one_batch_give_the_same_events_as_alone() -> None:
    whats = [request(number, PROMPT, **DRAWN, seed=number) for number in range(1, 5)]
    alone = [comparable(delivered(Progress(what), events_by_step(what))) for what in whats]
    halves = []
    bench = Bench()
    for what in whats:
        progress = Progress(what)
        halves.append((progress, delivered(progress, events_by_step(what)[:4])))
    bench.run(*(resumed(progress, 0.0) for progress, _ in halves))
    for (progress, before), what, expected in zip(halves, whats, alone, strict=True):
        after = delivered(progress, [bench.events[what.request_id]])
        assert comparable(before + after) == expected


@pytest.mark.parametrize("kind", ["tree", "resumed"])
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_prompt_with_words_after_it_starts_beside_a_request_that_reads_the_prompt(
    kind: str, is_cached: bool
) -> None:
    """The words are read after the prompt, whose tokens may be cached already."""
    prompt = tuple(range(40))
    written = Written((A, B), (-1.0, -1.0))
    if kind == "tree":
        expansion = Expansion((written,), (-99.0,), 5, after_controls=False)
        what = replace(request(2, prompt, max_new_tokens=1), expansion=expansion)
    else:
        resumption = Resumption({0: written}, 1.0, False)
        what = replace(request(2, prompt, max_new_tokens=6), resumption=resumption)
    alone = Bench()
    alone.run(what)
    bench = Bench()
    if is_cached:
        bench.run(request(0, prompt, max_new_tokens=1))
    bench.submit(request(1, prompt, echo=True, max_new_tokens=0))
    bench.step()
    bench.run(what)
    assert comparable(bench.events[2]) == comparable(alone.events[2])
