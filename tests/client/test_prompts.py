"""What a prompt may be: too long, scored only, healed, with controls that name tokens."""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Any

import pytest

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.prompt import most_used
from gptj_demo.protocol import (
    Finished,
    PromptScored,
    Started,
    TokenEvent,
)
from tests.client.requests import (
    collect,
    ends,
    everything,
    request,
    run,
    tokens_of,
)


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


@pytest.mark.parametrize(
    ("prompt", "params", "most"),
    [
        ((5,) * 10, {}, 10 + 8),
        ((), {}, 1 + 8),  # the token that begins a text
        ((5,) * 10, {"n": 2, "best_of": 3}, 10 + 3 * 8),
        ((5,) * 10, {"max_new_tokens": 0, "echo": True}, 10),
        ((5,) * 2040, {"max_new_tokens": 100}, 2048),
        ((5,) * 2048, {"max_new_tokens": 100}, 2049),  # one token follows a full context
        ((5,) * 2500, {"truncate": "left"}, 2040 + 8),
    ],
)
def test_the_most_tokens_that_a_request_can_use_are_known(
    worker: Worker, prompt: tuple[int, ...], params: dict[str, Any], most: int
) -> None:
    what = request(prompt, ignore_eos=True, **params)

    async def scenario() -> None:
        assert await most_used(what, worker.require_ready()) == most
        events = await everything(worker, what)
        (read,) = {event.prompt_tokens for event in events if isinstance(event, Started)}
        end = ends(events)
        generated = sum(one.completion_tokens for one in end)
        assert read + generated * what.params.candidates // len(end) == most

    run(scenario())


def test_truncation_keeps_at_least_half_of_the_context_for_the_prompt(
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
def test_a_control_with_an_unknown_token_is_refused_by_name(
    worker: Worker, control: str, value: Any, said: str
) -> None:
    with pytest.raises(RequestRefused, match=said) as refusal:
        run(collect(worker, request(**{control: value})))
    assert (refusal.value.kind, refusal.value.control) == ("invalid", control)


def test_a_grammar_that_cannot_be_used_is_refused_by_name(worker: Worker) -> None:
    wrong = request(must_match="regex", must_match_text="[a-z")
    with pytest.raises(RequestRefused, match="unclosed character class") as refusal:
        run(collect(worker, wrong))
    assert (refusal.value.kind, refusal.value.control) == ("invalid", "must_match_text")


def test_a_completion_matches_its_regular_expression(worker: Worker) -> None:
    asked = request(must_match="regex", must_match_text="[A-D]{2,5}é", max_new_tokens=20)
    events = run(everything(worker, asked))
    text = "".join(e.text for e in events if isinstance(e, TokenEvent | Finished))
    assert re.fullmatch("[A-D]{2,5}é", text)
    assert ends(events)[0].reason == "stop"


def test_tokenize_returns_the_tokens_of_a_text_with_their_places(worker: Worker) -> None:
    tokens = run(worker.tokenize("The 🙂"))
    assert tokens[0].start == 0
    assert tokens[-1].end == len("The 🙂".encode())
    assert "\\xf0" in tokens[-4].text or "\\x9f" in tokens[-3].text


def test_tokenize_lists_as_many_tokens_as_its_caller_allows(worker: Worker) -> None:
    tokens = run(worker.tokenize("The 🙂"))
    assert run(worker.tokenize("The 🙂", most=len(tokens))) == tokens
    with pytest.raises(RequestRefused, match=f"{len(tokens)} tokens; at most 1 are listed"):
        run(worker.tokenize("The 🙂", most=1))
