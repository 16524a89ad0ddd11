"""When a completion ends and what its last event says."""

from __future__ import annotations

import pytest
import torch

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import PromptScored, TokenEvent
from tests.engine.bench import CONTEXT, DRAWN, END, A, B, Bench, C, D, request
from tests.engine.checkpoints import TEXT_TOKENS, make_model
from tests.engine.forward import built


def test_logit_bias_makes_the_model_write_given_tokens() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, D), max_new_tokens=3))
    assert bench.tokens(0) == [A, B, D]
    assert bench.text(0) == "ABD"


def test_the_end_of_text_token_ends_a_completion_and_is_not_shown() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, END)))
    end = bench.end(0)
    assert bench.tokens(0) == [A, B]
    assert (end.reason, str(end.message)) == ("stop", "The model ended its text here.")
    assert end.completion_tokens == 3


def test_ignore_eos_continues_past_the_end_of_text_token_and_shows_it() -> None:
    bench = Bench()
    bench.run(request(writes=(A, END, B, D), max_new_tokens=4, ignore_eos=True))
    assert bench.tokens(0) == [A, END, B, D]
    assert bench.text(0) == "A<|endoftext|>BD"
    assert bench.end(0).reason == "length"


def test_a_stop_token_ends_a_completion_even_with_ignore_eos_and_is_not_shown() -> None:
    bench = Bench()
    bench.run(
        request(0, writes=(A, B, D), stop_token_ids=(D, B)),
        request(1, writes=(A, END), stop_token_ids=(END,), ignore_eos=True),
    )
    assert (bench.tokens(0), bench.tokens(1)) == ([A], [A])
    assert (bench.end(0).reason, bench.end(1).reason) == ("stop", "stop")
    assert str(bench.end(0).message) == f"Stopped before token {B}, as you asked."


def test_a_stop_string_ends_a_completion_and_is_not_shown() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, D, C), stop=("BD",)))
    assert bench.text(0) == "A"
    assert (bench.end(0).reason, str(bench.end(0).message)) == (
        "stop",
        'Stopped before "BD", as you asked.',
    )


def test_a_stop_string_that_is_included_is_shown() -> None:
    bench = Bench()
    bench.run(request(writes=(A, B, D, C), stop=("BD",), include_stop_str_in_output=True))
    assert bench.text(0) == "ABD"
    assert (bench.end(0).reason, str(bench.end(0).message)) == (
        "stop",
        'Stopped after "BD", as you asked.',
    )


@pytest.mark.parametrize("remaining", [0, 1])
def test_one_token_follows_a_prompt_that_fills_the_context(remaining: int) -> None:
    prompt = ([A, B, C, D, B] * CONTEXT)[: CONTEXT - remaining]
    bench = Bench()
    bench.run(request(prompt=prompt, max_new_tokens=9, ignore_eos=True, echo=True, logprobs=1))
    with torch.no_grad():
        logits = make_model(seed=4, n_positions=CONTEXT)(torch.tensor([prompt])).logits
    assert bench.tokens(0) == [int(logits[0, -1, :TEXT_TOKENS].argmax())]
    assert (bench.end(0).reason, bench.end(0).message.code) == ("length", "end.context")
    (scored,) = [one for one in bench.events[0] if isinstance(one, PromptScored)]
    expected = logits[0, :-1].log_softmax(dim=-1).gather(1, torch.tensor(prompt[1:])[:, None])
    logprobs = torch.tensor([one.logprob for one in scored.logprobs[1:] if one is not None])
    assert torch.allclose(logprobs, expected[:, 0], atol=1e-5)


def test_min_new_tokens_delays_end_tokens_but_not_stop_strings() -> None:
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


def test_a_completion_ends_after_max_new_tokens() -> None:
    bench = Bench()
    bench.run(request(max_new_tokens=7, ignore_eos=True))
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "Wrote the 7 tokens you asked for.")
    assert end.completion_tokens == len(bench.tokens(0)) == 7


def test_a_completion_ends_with_a_message_when_the_context_is_full() -> None:
    bench = Bench()
    prompt = [A] * (CONTEXT - 5)
    bench.run(request(prompt=prompt, max_new_tokens=100, ignore_eos=True))
    end = bench.end(0)
    assert (end.reason, str(end.message)) == ("length", "The model's context of 64 tokens is full.")
    assert end.completion_tokens == 5


def test_max_time_counts_from_the_start_of_the_request_not_its_arrival() -> None:
    """The second request waits for the slot longer than its limit and still has all its time."""
    bench = Bench(max_num_seqs=1)
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


def test_max_time_applies_to_its_own_request_only() -> None:
    bench = Bench()
    bench.clock.a_step = 1.0
    bench.run(
        request(0, max_new_tokens=12, ignore_eos=True, max_time=2.5),
        request(1, max_new_tokens=12, ignore_eos=True),
    )
    assert bench.end(0).completion_tokens < 4
    assert bench.end(1).completion_tokens == 12


EVERYTHING = tuple((token,) for token in range(TEXT_TOKENS))


def test_the_likeliest_token_is_taken_when_the_controls_leave_none() -> None:
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
    logprobs = bench.token_events(3)[0].logprobs
    assert logprobs is not None
    assert logprobs.sampled_logprob == 0.0
    assert [other.removed_by for other in logprobs.alternatives] == [None] + ["bad_words"] * 4


def test_no_repeat_ngram_size_1_can_leave_no_token() -> None:
    """Every token stands in the prompt, and none may come twice."""
    model = make_model(seed=4, vocab_size=5, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0)
    runner = Runner(built(model), 2, 5)
    engine = Engine(
        runner, EngineVocabulary([b"x"] * 5, 5, CONTEXT, bos_token_id=0, eos_token_ids=()), 16
    )
    engine.submit(request(prompt=range(5), no_repeat_ngram_size=1, max_new_tokens=4))
    events = []
    while not engine.is_idle:
        events += engine.step()
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    assert [event.filtered_away for event in tokens] == [True] * 4
