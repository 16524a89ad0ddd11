"""The engine's promises to one request, whatever the others do: how it ends and what it is told.

A tiny random model, which `logit_bias` makes write what a test needs, and a clock set by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from gptj_demo.engine.engine import Engine, EngineVocabulary
from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.kv_cache import KVCache
from gptj_demo.engine.runner import Runner
from gptj_demo.protocol import EngineEvent, Finished, PromptScored, Started, Submit, TokenEvent
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import token_bytes
from tests.engine.checkpoints import TEXT_TOKENS, make_model, make_tokenizer

TOKENIZER = make_tokenizer()
TABLE = token_bytes(TOKENIZER.to_str())
END = TEXT_TOKENS - 1
CONTEXT = 64
A, B, C, D = (TABLE.index(letter.encode()) for letter in "ABCD")
NOT_A_NUMBER = TABLE.index(b"~")  # the token whose embedding is one, in some tests


class Clock:
    """Seconds, set by hand; `a_step` passes with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.a_step = 0.0

    def __call__(self) -> float:
        self.now += self.a_step
        return self.now


class Bench:
    """An engine and all that it told, by request."""

    def __init__(
        self, *, broken: bool = False, max_streams: int = 4, prefill_budget: int = 16
    ) -> None:
        model = make_model(seed=4, n_positions=CONTEXT)
        if broken:
            with torch.no_grad():
                model.transformer.wte.weight[NOT_A_NUMBER] = torch.nan
        self.clock = Clock()
        runner = Runner(GPTJ(model), max_streams, TEXT_TOKENS)
        vocabulary = EngineVocabulary(
            TABLE, TEXT_TOKENS, CONTEXT, bos_token_id=END, eos_token_ids=[END]
        )
        self.engine = Engine(runner, vocabulary, prefill_budget, self.clock)
        self.events: dict[int, list[EngineEvent]] = {}

    def submit(self, *requests: Submit) -> None:
        for request in requests:
            self.engine.submit(request)

    def cancel(self, request_id: int) -> list[Finished]:
        ends = self.engine.cancel(request_id)
        for end in ends:
            self.events.setdefault(request_id, []).append(end)
        return ends

    def step(self) -> None:
        for event in self.engine.step():
            self.events.setdefault(event.request_id, []).append(event)

    def run(self, *requests: Submit) -> None:
        self.submit(*requests)
        while not self.engine.is_idle:
            self.step()

    def tokens(self, request_id: int, index: int = 0) -> list[int]:
        return [event.token_id for event in self.token_events(request_id, index)]

    def token_events(self, request_id: int, index: int = 0) -> list[TokenEvent]:
        return [
            event
            for event in self.events.get(request_id, ())
            if isinstance(event, TokenEvent) and event.index == index
        ]

    def text(self, request_id: int, index: int = 0) -> str:
        pieces = [event.text for event in self.token_events(request_id, index)]
        return "".join(pieces) + self.end(request_id, index).text

    def end(self, request_id: int, index: int = 0) -> Finished:
        ends = [
            event
            for event in self.events[request_id]
            if isinstance(event, Finished) and event.index == index
        ]
        assert len(ends) == 1
        return ends[0]

    def started(self, request_id: int) -> Started:
        events = [event for event in self.events[request_id] if isinstance(event, Started)]
        assert len(events) == 1
        return events[0]


def request(request_id: int = 0, prompt: Sequence[int] = (C,), **values: Any) -> Submit:
    """Greedy unless told otherwise; `writes` are tokens that the model then writes in turn."""
    fields = ("logit_bias", "bad_words", "dropped_tokens", "seed")
    given = {name: values.pop(name) for name in fields if name in values}
    writes = values.pop("writes", ())
    if writes:
        path = (prompt[-1], *writes)
        pairs = itertools.pairwise(path)
        given["logit_bias"] = tuple((pair, 100.0) for pair in pairs)
    params = SamplingParams(**{"temperature": 0, "max_new_tokens": 10, **values})
    return Submit(request_id, tuple(prompt), params, **{"seed": 5, **given})


def test_the_model_writes_what_a_test_lets_it() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, D), max_new_tokens=3))
    assert bench.tokens(0) == [A, B, D]
    assert bench.text(0) == "ABD"


# ---- how a text ends


def test_it_ends_with_the_model_s_end_of_text_which_is_not_shown() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, END)))
    end = bench.end(0)
    assert bench.tokens(0) == [A, B]
    assert (end.reason, str(end.message)) == ("stop", "The model ended its text here.")
    assert end.completion_tokens == 3


def test_ignore_eos_goes_on_past_the_end_and_shows_it() -> None:
    bench = Bench()
    bench.run(request(writes=(A, END, B, D), max_new_tokens=4, ignore_eos=True))
    assert bench.tokens(0) == [A, END, B, D]
    assert bench.text(0) == "A<|endoftext|>BD"
    assert bench.end(0).reason == "length"


def test_stop_token_ids_end_it_and_are_not_shown_also_where_eos_is_ignored() -> None:
    bench = Bench()
    bench.run(
        request(0, writes=(A, B, D), stop_token_ids=(D, B)),
        request(1, writes=(A, END), stop_token_ids=(END,), ignore_eos=True),
    )
    assert (bench.tokens(0), bench.tokens(1)) == ([A], [A])
    assert (bench.end(0).reason, bench.end(1).reason) == ("stop", "stop")
    assert str(bench.end(0).message) == f"Stopped before token {B}, as you asked."


def test_a_stop_string_ends_it_and_is_not_shown() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, D, C), stop=("BD",)))
    assert bench.text(0) == "A"
    assert (bench.end(0).reason, str(bench.end(0).message)) == (
        "stop",
        "Stopped before 'BD', as you asked.",
    )


def test_no_end_before_min_new_tokens_but_stop_strings_keep_their_effect() -> None:
    bench = Bench()
    always_end = {"logit_bias": (((END,), 100.0), ((B,), 50.0))}
    bench.run(
        request(0, min_new_tokens=4, **always_end),
        request(1, min_new_tokens=4, stop_token_ids=(B,), **always_end),
        request(2, min_new_tokens=4, stop=("BB",), **always_end),
    )
    assert bench.tokens(0) == [B] * 4
    assert bench.end(0).reason == "stop"
    assert len(bench.tokens(1)) == 4
    assert B not in bench.tokens(1)
    assert bench.end(2).completion_tokens == 2


def test_it_ends_after_max_new_tokens() -> None:
    bench = Bench()
    bench.run(request(max_new_tokens=7, ignore_eos=True))
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "Wrote the 7 tokens you asked for.")
    assert end.completion_tokens == len(bench.tokens(0)) == 7


def test_it_ends_when_the_context_is_full_and_says_that_it_was_the_context() -> None:
    bench = Bench()
    prompt = [A] * (CONTEXT - 5)
    bench.run(request(prompt=prompt, max_new_tokens=100, ignore_eos=True))
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "The model's context of 64 tokens is full.")
    assert end.completion_tokens == 5


def test_max_time_counts_from_the_start_of_the_request_not_from_its_arrival() -> None:
    """Two requests over one slot: the second waits longer than its limit and then has it all."""
    bench = Bench(max_streams=1)
    bench.submit(
        request(0, max_new_tokens=10, ignore_eos=True),
        request(1, max_new_tokens=50, ignore_eos=True, max_time=3.0),
    )
    for _ in range(10):
        bench.step()
        bench.clock.now += 1.0
    assert bench.end(0).completion_tokens == 10
    while not bench.engine.is_idle:
        bench.step()
        bench.clock.now += 1.0
    end = bench.end(1)
    # tokens at seconds 0, 1, 2 and 3 after its start
    assert end.completion_tokens == len(bench.tokens(1)) == 4
    assert (end.reason, str(end.message)) == ("length", "Stopped after 3 seconds, as you asked.")


def test_max_time_of_one_request_is_not_that_of_another() -> None:
    bench = Bench()
    bench.clock.a_step = 1.0
    bench.run(
        request(0, max_new_tokens=12, ignore_eos=True, max_time=2.5),
        request(1, max_new_tokens=12, ignore_eos=True),
    )
    assert bench.end(0).completion_tokens < 4
    assert bench.end(1).completion_tokens == 12


# ---- prompts


def test_nothing_is_written_where_only_the_prompt_is_to_be_scored() -> None:
    bench = Bench()
    bench.run(request(prompt=(A, B, C), max_new_tokens=0, echo=True), request(1, max_new_tokens=3))
    kinds = [type(event) for event in bench.events[0]]
    assert kinds == [Started, PromptScored, Finished]
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "Read the 3 tokens of the text.")
    assert (end.prompt_tokens, end.completion_tokens, end.text) == (3, 0, "")
    assert end.mean_logprob is None
    assert bench.end(1).completion_tokens == 3


def test_the_scores_of_a_prompt_come_before_its_first_token() -> None:
    """Also where it is read in several chunks, and for several completions once."""
    bench = Bench(prefill_budget=4)
    prompt = [(A, B, C)[place % 3] for place in range(11)]
    bench.run(request(prompt=prompt, echo=True, n=3, max_new_tokens=2, ignore_eos=True))
    kinds = [type(event) for event in bench.events[0]]
    assert kinds[:3] == [Started, PromptScored, TokenEvent]
    assert kinds.count(PromptScored) == 1
    scored = bench.events[0][1]
    assert isinstance(scored, PromptScored)
    assert len(scored.logprobs) == len(prompt)


def test_a_truncated_prompt_says_so_at_its_start_and_at_its_end() -> None:
    bench = Bench()
    bench.run(
        request(0, dropped_tokens=1, max_new_tokens=1),
        request(1, dropped_tokens=1200, writes=(END,)),
    )
    assert (bench.started(0).dropped_tokens, bench.started(1).dropped_tokens) == (1, 1200)
    assert str(bench.end(0).message).endswith(
        " The first 1 token of the text did not fit and were not read."
    )
    assert str(bench.end(1).message) == (
        "The model ended its text here. "
        "The first 1,200 tokens of the text did not fit and were not read."
    )


# ---- token healing


def test_healing_takes_the_last_token_back_and_begins_with_its_characters() -> None:
    """The characters are not written twice: the text goes on where the prompt ended."""
    bench = Bench()
    the = TOKENIZER.encode("the").ids[-1]
    prefix = TABLE[the]
    beginnings = [token for token in range(END) if TABLE[token].startswith(prefix)]
    assert len(prefix) > 0
    assert the in beginnings
    bench.run(
        request(0, (A, B, the), token_healing=True, max_new_tokens=4, ignore_eos=True),
        request(1, (A, B, the), max_new_tokens=4, ignore_eos=True),
    )
    first, *rest = bench.tokens(0)
    assert first in beginnings
    started = bench.started(0)
    assert (started.healed_token_id, started.prompt_tokens) == (the, 2)
    assert bench.started(1).healed_token_id is None
    whole = TABLE[first] + b"".join(TABLE[token] for token in rest)
    assert bench.text(0) == whole[len(prefix) :].decode(errors="replace")


def test_healing_can_choose_a_longer_token() -> None:
    bench = Bench()
    t = TABLE.index(b"t")
    longer = [token for token in range(END) if TABLE[token].startswith(b"t") and token != t]
    bench.run(
        request(
            prompt=(A, t), token_healing=True, max_new_tokens=1, logit_bias=(((longer[0],), 100.0),)
        )
    )
    assert bench.tokens(0) == [longer[0]]
    assert bench.text(0) == TABLE[longer[0]][1:].decode()


def test_a_prompt_of_one_token_is_healed_from_the_beginning_of_a_text() -> None:
    bench = Bench()
    bench.run(request(prompt=(A,), token_healing=True, max_new_tokens=1))
    assert TABLE[bench.tokens(0)[0]].startswith(b"A")
    assert (bench.started(0).healed_token_id, bench.started(0).prompt_tokens) == (A, 1)


def test_the_end_of_a_text_is_not_healed() -> None:
    bench = Bench()
    bench.run(request(prompt=(A, END), token_healing=True, max_new_tokens=1))
    assert (bench.started(0).healed_token_id, bench.started(0).prompt_tokens) == (None, 2)


def test_a_healed_prompt_continues_as_its_tokens_would() -> None:
    """What was taken back counts neither for the cache nor for the penalties."""
    bench = Bench()
    t = TABLE.index(b"t")
    values: dict[str, Any] = {"max_new_tokens": 6, "ignore_eos": True, "repetition_penalty": 1.5}
    bench.run(request(0, (A, B, t), token_healing=True, **values))
    first = bench.tokens(0)[0]
    values["max_new_tokens"] = 5
    bench.run(request(1, (A, B, first), **values))
    assert bench.tokens(0)[1:] == bench.tokens(1)


# ---- several completions

DRAWN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8, "ignore_eos": True}


def test_each_of_several_completions_is_the_one_that_its_seed_gives_alone() -> None:
    """Also where there are more of them than slots, and where seeds pass the largest one."""
    bench = Bench(max_streams=2)
    first = 2**32 - 2
    bench.run(request(0, (A, B), n=5, seed=first, **DRAWN))
    assert [bench.end(0, index).seed for index in range(5)] == [first, first + 1, 0, 1, 2]
    for index in range(5):
        alone = Bench()
        alone.run(request(0, (A, B), seed=bench.end(0, index).seed, **DRAWN))
        assert alone.tokens(0) == bench.tokens(0, index)
    assert len({tuple(bench.tokens(0, index)) for index in range(5)}) == 5


def test_the_prompt_of_several_completions_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    prefill = GPTJ.prefill

    def counted(
        model: GPTJ, cache: KVCache, slot: int, token_ids: torch.Tensor, start: int
    ) -> torch.Tensor:
        lengths.append(len(token_ids))
        return prefill(model, cache, slot, token_ids, start)

    monkeypatch.setattr(GPTJ, "prefill", counted)
    bench = Bench(prefill_budget=8)
    bench.run(request(prompt=(A, B, C) * 7, n=4, **DRAWN))
    assert sum(lengths) == 21
    assert [len(bench.tokens(0, index)) for index in range(4)] == [8] * 4


def test_cancelling_ends_all_completions_those_that_wait_too() -> None:
    bench = Bench(max_streams=2)
    bench.submit(request(0, n=3, **DRAWN), request(1, **DRAWN))
    for _ in range(3):
        bench.step()
    written = [len(bench.tokens(0, index)) for index in range(3)]
    assert written[0] > 0
    assert written[1] > 0
    assert written[2] == 0
    ends = bench.cancel(0)
    assert [end.index for end in ends] == [0, 1, 2]
    assert {end.reason for end in ends} == {"cancelled"}
    assert [end.completion_tokens for end in ends] == written
    assert bench.cancel(0) == []
    while not bench.engine.is_idle:
        bench.step()
    assert [len(bench.tokens(0, index)) for index in range(3)] == written
    assert bench.end(1).completion_tokens == 8


def test_cancelling_leaves_alone_the_completions_that_have_ended() -> None:
    bench = Bench()
    bench.submit(request(n=3, logit_bias=(((END,), 4.0),), **{**DRAWN, "ignore_eos": False}))
    while not any(isinstance(event, Finished) for event in bench.events.get(0, ())):
        bench.step()
    ended = {event.index for event in bench.events[0] if isinstance(event, Finished)}
    assert 0 < len(ended) < 3
    assert {end.index for end in bench.cancel(0)} == {0, 1, 2} - ended
    assert bench.engine.is_idle


def test_an_unknown_request_cannot_be_cancelled_and_nothing_happens() -> None:
    bench = Bench()
    assert bench.cancel(77) == []
    assert bench.engine.is_idle


# ---- nothing left to choose from

EVERYTHING = tuple((token,) for token in range(TEXT_TOKENS))


def test_where_the_controls_leave_nothing_the_likeliest_is_taken_and_it_says_so() -> None:
    bench = Bench()
    bench.run(
        request(0, bad_words=EVERYTHING, max_new_tokens=3, ignore_eos=True),
        request(1, max_new_tokens=3, ignore_eos=True),
        request(2, bad_words=EVERYTHING, seed=3, **DRAWN),
        request(3, bad_words=EVERYTHING, max_new_tokens=1, logprobs=5),
    )
    assert bench.tokens(0) == bench.tokens(1)
    assert bench.tokens(2)[:3] == bench.tokens(1)
    assert [event.filtered_away for event in bench.token_events(0)] == [True] * 3
    assert [event.filtered_away for event in bench.token_events(1)] == [False] * 3
    assert str(bench.end(0).message) == (
        "Wrote the 3 tokens you asked for. At 3 tokens the controls left nothing to choose from; "
        "the model's most probable token was taken."
    )
    assert "controls" not in str(bench.end(1).message)
    told = bench.token_events(3)[0].logprobs
    assert told is not None
    assert told.sampled_logprob == 0.0
    assert [other.removed_by for other in told.alternatives] == [None] + ["bad_words"] * 4


def test_an_ngram_of_one_that_leaves_nothing() -> None:
    """Every token stands in the prompt, and none may come twice."""
    model = make_model(seed=4, vocab_size=5, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0)
    runner = Runner(GPTJ(model), 2, 5)
    engine = Engine(
        runner, EngineVocabulary([b"x"] * 5, 5, CONTEXT, bos_token_id=0, eos_token_ids=()), 16
    )
    engine.submit(request(prompt=range(5), no_repeat_ngram_size=1, max_new_tokens=4))
    events = []
    while not engine.is_idle:
        events += engine.step()
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [event.filtered_away for event in tokens] == [True] * 4


# ---- not a number

BROKEN_MESSAGE = "not a number"


def sound_tokens(*requests: Submit) -> dict[int, list[int]]:
    bench = Bench()
    bench.run(*requests)
    return {one.request_id: bench.tokens(one.request_id) for one in requests}


def neighbours() -> list[Submit]:
    return [
        request(1, (A, B, C, D) * 5, **DRAWN),
        request(2, (B,), max_new_tokens=12, ignore_eos=True, repetition_penalty=1.3, logprobs=3),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 1.0, "typical_p": 0.9, "logprobs": 5},
        {"frequency_penalty": 1.0, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
        {"n": 3, "temperature": 1.0},
        {"echo": True, "logprobs": 2},
        {"best_of": 2},
    ],
)
def test_a_prompt_that_breaks_the_model_ends_with_an_error_and_no_other_request(
    values: dict[str, Any],
) -> None:
    expected = sound_tokens(*neighbours())
    bench = Bench(broken=True, max_streams=8)
    first, second = neighbours()
    bench.submit(first)
    bench.step()
    bench.run(request(0, (A, NOT_A_NUMBER, B), **values), second)
    for index in range(max(values.get("n", 1), values.get("best_of", 1))):
        end = bench.end(0, index)
        assert end.reason == "error"
        assert BROKEN_MESSAGE in str(end.message)
        assert (end.completion_tokens, end.text) == (0, "")
        assert bench.tokens(0, index) == []
    assert {number: bench.tokens(number) for number in expected} == expected
    assert {bench.end(number).reason for number in expected} == {"length"}


def test_a_text_that_breaks_on_its_way_keeps_what_was_written() -> None:
    expected = sound_tokens(*neighbours())
    bench = Bench(broken=True)
    bench.run(request(0, writes=(A, B, NOT_A_NUMBER, D)), *neighbours())
    assert bench.tokens(0) == [A, B, NOT_A_NUMBER]
    assert bench.text(0) == "AB~"
    assert (bench.end(0).reason, bench.end(0).completion_tokens) == ("error", 3)
    assert {number: bench.tokens(number) for number in expected} == expected


def test_a_broken_prompt_that_is_only_scored_ends_with_an_error() -> None:
    bench = Bench(broken=True)
    bench.run(request(0, (A, NOT_A_NUMBER, B), echo=True, max_new_tokens=0), *neighbours())
    assert bench.end(0).reason == "error"
    assert BROKEN_MESSAGE in str(bench.end(0).message)
    assert {number: bench.tokens(number) for number in (1, 2)} == sound_tokens(*neighbours())


@pytest.mark.parametrize("ends_how", ["prompt", "continuation", "scored", "cancelled"])
def test_the_slot_of_a_broken_request_is_clean_for_the_next_ones(ends_how: str) -> None:
    """They attend beside longer rows, so that they look past their own tokens."""
    bench = Bench(broken=True, max_streams=2, prefill_budget=8)
    long = [A, NOT_A_NUMBER] + [B] * 38
    if ends_how == "prompt":
        bench.run(request(0, long), request(9, long))
    elif ends_how == "continuation":
        writes = (A, B, NOT_A_NUMBER)
        bench.run(*(request(n, [C] * 40, writes=writes) for n in (0, 9)))
    elif ends_how == "scored":
        bench.run(*(request(n, long, echo=True, max_new_tokens=0) for n in (0, 9)))
    else:
        bench.submit(request(0, long), request(9, long))
        for _ in range(3):  # in the midst of their prompts
            bench.step()
        bench.cancel(0)
        bench.cancel(9)
    after = [
        request(1, (A, B) * 20, max_new_tokens=20, ignore_eos=True),
        request(2, (B,), max_new_tokens=20, ignore_eos=True),
    ]
    bench.run(*after)
    assert {number: bench.tokens(number) for number in (1, 2)} == sound_tokens(*after)


def test_a_text_cancelled_just_before_it_breaks_leaves_its_slot_clean() -> None:
    bench = Bench(broken=True, max_streams=2)
    bench.submit(
        request(0, [C] * 40, writes=(A, NOT_A_NUMBER, B)),
        request(9, (A, B) * 20, max_new_tokens=20, ignore_eos=True),
    )
    while bench.tokens(0)[-1:] != [NOT_A_NUMBER]:
        bench.step()
    bench.cancel(0)
    after = request(1, (B,), max_new_tokens=20, ignore_eos=True)
    bench.run(after)
    assert {1: bench.tokens(1)} == sound_tokens(after)
    other = request(9, (A, B) * 20, max_new_tokens=20, ignore_eos=True)
    assert {9: bench.tokens(9)} == sound_tokens(other)


# ---- the company


def test_a_short_prompt_writes_the_same_and_soon_beside_a_long_one() -> None:
    long = request(0, [A, B, C, D] * 14, max_new_tokens=4)
    short = request(1, [B, B, D], max_new_tokens=4)
    alone = Bench(prefill_budget=4)
    alone.run(long)
    alone.run(short)
    bench = Bench(prefill_budget=4)
    bench.submit(long)
    bench.step()
    bench.submit(short)
    for _ in range(3):
        bench.step()
    assert bench.tokens(1)
    assert not bench.tokens(0)  # which takes 14 steps to read
    bench.run()
    for request_id in (0, 1):
        assert bench.tokens(request_id) == alone.tokens(request_id)


def test_a_request_writes_the_same_alone_and_beside_all_kinds_of_others() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 0},
        {"top_k": 5, "presence_penalty": 1.0},
        {"top_p": 0.8, "repetition_penalty": 1.2, "logprobs": 20},
        {"typical_p": 0.8, "dry_multiplier": 0.8, "dry_allowed_length": 1},
        {"min_p": 0.1, "no_repeat_ngram_size": 2, "echo": True},
        {"eta_cutoff": 0.1, "epsilon_cutoff": 0.001, "xtc_probability": 0.5, "xtc_threshold": 0.01},
        {"token_healing": True, "frequency_penalty": 0.5, "min_new_tokens": 3, "n": 2},
    ]
    requests = [
        replace(
            request(number, [A, B, C, D][: 1 + number % 4] * 3, **{**DRAWN, **values}), seed=number
        )
        for number, values in enumerate(kinds)
    ]
    together = Bench(max_streams=8)
    together.run(*requests)
    for one in requests:
        alone = Bench()
        alone.run(one)
        for index in range(one.params.n):
            assert alone.tokens(one.request_id, index) == together.tokens(one.request_id, index)
            ours, theirs = (b.token_events(one.request_id, index) for b in (alone, together))
            assert ours == theirs
