"""What the engine does with a prompt: scores, truncation, token healing."""

from __future__ import annotations

from typing import Any

import pytest

from gptj_demo.protocol import Finished, PromptScored, Started, TokenEvent
from tests.engine.bench import END, TABLE, TOKENIZER, A, B, Bench, C, request


def test_max_new_tokens_0_only_scores_the_prompt() -> None:
    bench = Bench()
    bench.run(request(prompt=(A, B, C), max_new_tokens=0, echo=True), request(1, max_new_tokens=3))
    kinds = [type(event) for event in bench.events[0]]
    assert kinds == [Started, PromptScored, Finished]
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "Read the 3 tokens of the text.")
    assert (end.prompt_tokens, end.completion_tokens, end.text) == (3, 0, "")
    assert end.mean_logprob is None
    assert bench.end(1).completion_tokens == 3


def test_prompt_scores_come_once_before_the_first_token() -> None:
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


def test_first_and_last_event_report_a_truncated_prompt() -> None:
    bench = Bench()
    bench.run(
        request(0, dropped_tokens=1, max_new_tokens=1),
        request(1, dropped_tokens=1200, writes=(END,)),
    )
    assert (bench.started(0).dropped_tokens, bench.started(1).dropped_tokens) == (1, 1200)
    assert str(bench.end(0).message).endswith(
        " The first 1 token of the text did not fit and was not read."
    )
    assert str(bench.end(1).message) == (
        "The model ended its text here. "
        "The first 1,200 tokens of the text did not fit and were not read."
    )


def test_healing_replaces_the_last_token_by_tokens_that_begin_with_its_text() -> None:
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


def test_a_prompt_of_one_token_is_healed_from_the_start_of_text() -> None:
    bench = Bench()
    bench.run(request(prompt=(A,), token_healing=True, max_new_tokens=1))
    assert TABLE[bench.tokens(0)[0]].startswith(b"A")
    assert (bench.started(0).healed_token_id, bench.started(0).prompt_tokens) == (A, 1)


def test_an_end_of_text_token_is_not_healed() -> None:
    bench = Bench()
    bench.run(request(prompt=(A, END), token_healing=True, max_new_tokens=1))
    assert (bench.started(0).healed_token_id, bench.started(0).prompt_tokens) == (None, 2)


@pytest.mark.parametrize("match", [{}, {"must_match": "regex", "must_match_text": "[A-D]+"}])
def test_a_token_is_healed_only_if_an_allowed_one_begins_with_its_text(
    match: dict[str, Any],
) -> None:
    bench = Bench()
    t = TABLE.index(b"t")
    longer = next(one for one in range(END) if TABLE[one].startswith(b"t") and one != t)
    values = {"token_healing": True, "max_new_tokens": 3, "ignore_eos": True, **match}
    bench.run(request(0, (A, B, t), allowed_token_ids=(A, B), **values))
    assert bench.started(0).healed_token_id is None
    assert len(bench.text(0)) == len(bench.tokens(0)) == 3
    assert set(bench.tokens(0)) <= {A, B}
    bench.run(request(1, (A, B, t), allowed_token_ids=(A, B, longer), **values))
    assert bench.started(1).healed_token_id == t
    if match:  # the rest of the token cannot begin a match
        assert bench.end(1).reason == "unmet"
    else:
        assert bench.tokens(1)[0] == longer
        assert bench.text(1).startswith(TABLE[longer][1:].decode())


def test_a_healed_prompt_continues_like_its_tokens() -> None:
    """The removed token counts neither for the cache nor for the penalties."""
    bench = Bench()
    t = TABLE.index(b"t")
    values: dict[str, Any] = {"max_new_tokens": 6, "ignore_eos": True, "repetition_penalty": 1.5}
    bench.run(request(0, (A, B, t), token_healing=True, **values))
    first = bench.tokens(0)[0]
    values["max_new_tokens"] = 5
    bench.run(request(1, (A, B, first), **values))
    assert bench.tokens(0)[1:] == bench.tokens(1)


def test_the_tokens_in_the_cache_are_counted_apart_for_each_visitor() -> None:
    bench = Bench()
    prompt = tuple(range(30))
    for number, visitor in enumerate(("a", "a", "b", "b")):
        bench.run(request(number, prompt, visitor=visitor, max_new_tokens=1))
    ends = [bench.end(number) for number in range(4)]
    assert [end.cached_tokens for end in ends] == [0, 29, 29, 29]
    assert [end.own_cached_tokens for end in ends] == [0, 29, 0, 29]
