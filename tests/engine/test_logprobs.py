"""Probabilities of `GPTJForCausalLM`, those after the controls, and which control removed what.

On the sample model and three random ones; prompts and continuations.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GPTJForCausalLM

from gptj_demo.engine.engine import Engine
from gptj_demo.engine.runner import Runner
from gptj_demo.engine.sampling import SamplerBatch, score
from gptj_demo.engine.vocabulary import EngineVocabulary
from gptj_demo.protocol import Finished, PromptScored, Submit, TokenEvent, TokenLogprobs
from gptj_demo.sampling import CONTROL_ORDER, SamplingParams
from tests.conftest import Record
from tests.engine.forward import built
from tests.engine.sampling.reference import Row, follow
from tests.engine.test_exactness import CASES, Case

CLOSE = 1e-4


class Outcome:
    """The events of one request."""

    def __init__(self) -> None:
        self.scored: PromptScored | None = None
        self.tokens: list[TokenEvent] = []
        self.finished: Finished | None = None


def run(case: Case, requests: list[Submit]) -> dict[int, Outcome]:
    runner = Runner(built(case.make()), max_num_seqs=4, vocabulary=case.vocabulary)
    table = [b"xy"] * case.vocabulary
    vocabulary = EngineVocabulary(
        table, case.vocabulary, runner.model.shape.context_length, bos_token_id=0, eos_token_ids=()
    )
    engine = Engine(runner, vocabulary, prefill_budget=16)
    outcomes = {request.request_id: Outcome() for request in requests}
    for request in requests:
        engine.submit(request)
    while not engine.is_idle:
        for event in engine.step():
            outcome = outcomes[event.request_id]
            if isinstance(event, PromptScored):
                outcome.scored = event
            elif isinstance(event, TokenEvent):
                outcome.tokens.append(event)
            elif isinstance(event, Finished):
                outcome.finished = event
    return outcomes


def reference(model: GPTJForCausalLM, token_ids: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities [length, rows of the head] by the model alone."""
    with torch.inference_mode():
        return model(torch.tensor([token_ids])).logits[0].log_softmax(dim=-1)


def largest_difference(
    entry: TokenLogprobs, expected: torch.Tensor, token_id: int, vocabulary: int, count: int
) -> float:
    """The largest error in the token and the alternatives; ranks and order are checked too."""
    usable = expected[:vocabulary]
    assert len(entry.alternatives) == min(count, vocabulary)
    assert all(other.token_id < vocabulary for other in entry.alternatives)
    likeliest = usable.sort(descending=True).values[: len(entry.alternatives)]
    listed = torch.tensor([other.token_id for other in entry.alternatives], dtype=torch.long)
    assert len(set(listed.tolist())) == len(listed)
    # sorted by value, so tokens that are equal up to rounding may swap places
    values = torch.tensor([other.logprob for other in entry.alternatives])
    differences = [abs(entry.logprob - float(usable[token_id]))]
    differences += (values - likeliest).abs().tolist()
    differences += (values - usable[listed]).abs().tolist()
    slack = 2 * CLOSE
    above = int((usable > usable[token_id] + slack).sum())
    level = int((usable >= usable[token_id] - slack).sum())
    assert above + 1 <= entry.rank <= level
    return max(differences)


def make_requests(case: Case) -> list[Submit]:
    """Prompts shorter and longer than a chunk of the prefill, drawn and greedy, with controls."""
    generator = random.Random(7)
    settings: list[dict[str, Any]] = [
        {"logprobs": 20, "temperature": 0},
        {"logprobs": 5, "temperature": 1.0, "top_p": 1.0},
        {"logprobs": 0, "temperature": 1.5, "top_k": 50},
        {"logprobs": 20, "temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.3},
    ]
    lengths = [40, 1, 16, 33]
    return [
        Submit(
            number,
            tuple(generator.choices(range(case.vocabulary), k=length)),
            SamplingParams(**one, echo=True, max_new_tokens=20),
            seed=number,
        )
        for number, (one, length) in enumerate(zip(settings, lengths, strict=True))
    ]


@pytest.mark.comparison
@pytest.mark.parametrize("name", CASES)
def test_logprobs_are_those_of_the_model_in_fp32(record: Record, name: str) -> None:
    """Over all rows of its head, the unused ones too."""
    case = CASES[name]
    requests = make_requests(case)
    outcomes = run(case, requests)
    model = case.make()
    for request in requests:
        outcome, prompt = outcomes[request.request_id], request.prompt_token_ids
        assert outcome.scored is not None
        assert outcome.finished is not None
        count = request.params.logprobs or 0
        generated = tuple(token.token_id for token in outcome.tokens)
        assert len(generated) == 20
        expected = reference(model, prompt + generated)
        scored = outcome.scored
        assert scored.token_ids == prompt
        assert scored.logprobs[0] is None
        for place, entry in enumerate(scored.logprobs[1:], start=1):
            assert entry is not None
            assert entry.sampled_logprob is None
            before = expected[place - 1]
            off = largest_difference(entry, before, prompt[place], case.vocabulary, count)
            record(f"log-probabilities of prompts: {name}", off, CLOSE)
        for place, token in enumerate(outcome.tokens, start=len(prompt)):
            assert token.logprobs is not None
            before = expected[place - 1]
            off = largest_difference(token.logprobs, before, token.token_id, case.vocabulary, count)
            record(f"log-probabilities of continuations: {name}", off, CLOSE)
        own = [token.logprobs.logprob for token in outcome.tokens if token.logprobs is not None]
        assert outcome.finished.sum_logprob == pytest.approx(sum(own))
        assert outcome.finished.mean_logprob == pytest.approx(sum(own) / 20)


@pytest.mark.comparison
@pytest.mark.parametrize("name", CASES)
def test_a_scored_text_has_a_sum_a_perplexity_and_bits_per_byte(record: Record, name: str) -> None:
    case = CASES[name]
    prompt = tuple(random.Random(3).choices(range(case.vocabulary), k=50))
    params = SamplingParams(echo=True, max_new_tokens=0)
    outcome = run(case, [Submit(0, prompt, params, seed=0)])[0]
    assert outcome.tokens == []
    assert outcome.finished is not None
    assert (outcome.finished.reason, outcome.finished.completion_tokens) == ("length", 0)
    scored = outcome.scored
    assert scored is not None
    expected = reference(case.make(), prompt).double()
    total = sum(float(expected[place - 1, prompt[place]]) for place in range(1, 50))
    off = abs(scored.sum_logprob - total) / 49
    record(f"log-probabilities of a text, mean: {name}", off, CLOSE)
    assert scored.perplexity == pytest.approx(math.exp(-total / 49), rel=1e-4)
    # each of the table's tokens is two bytes; the first token has no probability
    assert scored.bits_per_byte == pytest.approx(-total / math.log(2) / (49 * 2), rel=1e-4)


def test_a_prompt_of_one_token_has_no_perplexity() -> None:
    case = CASES["one layer, one head, own d_ff"]
    params = SamplingParams(echo=True, max_new_tokens=0)
    scored = run(case, [Submit(0, (5,), params, seed=0)])[0].scored
    assert scored is not None
    assert (scored.logprobs, scored.sum_logprob) == ((None,), 0)
    assert (scored.perplexity, scored.bits_per_byte) == (None, None)


def test_ids_that_pad_the_head_count_in_the_sum_but_are_never_listed() -> None:
    logits = torch.zeros(2, 10)
    logits[:, 6:] = 5.0  # the likeliest by far
    entries = score(logits, 6, torch.tensor([0, 5]), alternatives=20)()
    normalizer = math.log(6 + 4 * math.exp(5.0))
    for one in entries:
        assert sorted(other.token_id for other in one.alternatives) == list(range(6))
        assert one.logprob == pytest.approx(-normalizer)
        assert one.rank == 1


# ---- after the controls

SMALL = 18  # ids, fewer than the most alternatives: all are listed
ROWS: dict[str, Row] = {
    "logit_bias": Row(logit_bias=(((3,), 4.0), ((2, 5), -3.0))),
    "repetition_penalty": Row({"repetition_penalty": 1.5}),
    "no_repeat_ngram_size": Row({"no_repeat_ngram_size": 2}),
    "bad_words": Row(bad_words=((4,), (2, 6))),
    "min_new_tokens": Row({"min_new_tokens": 9, "stop_token_ids": (7,)}),
    "token_healing": Row(first_token_ids=(1, 8, 9), generated=()),
    "penalties": Row({"presence_penalty": 0.5, "frequency_penalty": 0.5, "dry_multiplier": 1.0}),
    "temperature": Row({"temperature": 0.5}),
    "top_k": Row({"top_k": 6}),
    "top_p": Row({"top_p": 0.7}),
    "min_p": Row({"min_p": 0.2}),
    "typical_p": Row({"typical_p": 0.6}),
    "epsilon_cutoff": Row({"epsilon_cutoff": 0.05}),
    "eta_cutoff": Row({"eta_cutoff": 0.3}),
    "tfs": Row({"tfs": 0.8}),
    "mirostat": Row({"mirostat": "2", "mirostat_tau": 1.5}),
    "top_a": Row({"top_a": 0.5}),
    "xtc": Row({"xtc_probability": 1.0, "xtc_threshold": 0.1}),
    "greedy": Row({"temperature": 0, "repetition_penalty": 1.5, "no_repeat_ngram_size": 1}),
    "emptied": Row(bad_words=tuple((token,) for token in range(SMALL))),
    "all": Row(
        {
            "no_repeat_ngram_size": 2,
            "min_new_tokens": 9,
            "temperature": 1.5,
            "top_k": 14,
            "top_p": 0.97,
            "min_p": 0.02,
            "typical_p": 0.95,
            "epsilon_cutoff": 0.02,
            "eta_cutoff": 0.1,
            "xtc_probability": 1.0,
            "xtc_threshold": 0.15,
        },
        bad_words=((4,), (2, 6)),
    ),
    "allowed_token_ids": Row({"allowed_token_ids": (1, 2, 5, 9)}),
    "must_match": Row(matching=(1, 3, 5, 9), vocabulary=SMALL),
    "must match, with filters": Row(
        {"top_k": 2, "temperature": 0.7}, matching=(1, 3, 5, 9), vocabulary=SMALL
    ),
}


SEEDS = range(5)


def make_rows(seed: int) -> tuple[list[Row], torch.Tensor]:
    """The rows above with some tokens so far, and logits [rows, SMALL + 3 unused ids]."""
    logits = torch.randn(len(ROWS), SMALL + 3, generator=torch.Generator().manual_seed(seed)) * 2
    tokens = (1, 2, 6, 1, 2, 5, 3, 2)
    made = []
    for row in ROWS.values():
        generated = () if row.first_token_ids else tokens[4:]
        row = replace(row, prompt=tokens[:4], generated=generated, seed=seed)
        made.append(replace(row, settings={**row.settings, "logprobs": 20}))
    return made, logits


@pytest.mark.comparison
@pytest.mark.parametrize("seed", SEEDS)
def test_each_alternative_has_its_sampled_probability_or_the_control_that_removed_it(
    record: Record, seed: int
) -> None:
    """All kinds of rows in one batch, and some in it that ask for no probabilities."""
    asked, logits = make_rows(seed)
    batch = [row for one in asked for row in (one, Row())]
    samplers = [row.sampler() for row in batch]
    both = logits.repeat_interleave(2, dim=0)
    sampled = SamplerBatch(samplers, SMALL, torch.device("cpu")).sample(both)
    for number, (name, row) in enumerate(zip(ROWS, asked, strict=True)):
        entry = sampled[2 * number].logprobs
        assert sampled[2 * number + 1].logprobs is None
        assert entry is not None
        expected = follow(row, logits[number, :SMALL])
        left = expected.scores.double().log_softmax(dim=0)
        if row.params.temperature == 0:
            likeliest = int(expected.adjusted.argmax())
            left = torch.full_like(left, -math.inf)
            left[likeliest] = 0.0
        assert len(entry.alternatives) == SMALL
        own = logits[number].log_softmax(dim=0)
        for other in entry.alternatives:
            after = float(left[other.token_id])
            assert other.logprob == pytest.approx(float(own[other.token_id]), abs=1e-5)
            if after > -math.inf:
                assert other.removed_by is None, name
                assert other.sampled_logprob is not None, name
                off = abs(other.sampled_logprob - after)
                record("log-probabilities after the controls", off, CLOSE)
            else:
                assert other.sampled_logprob is None, name
                # greedy decoding leaves out what no other control removed
                assert other.removed_by == expected.removed_by.get(other.token_id, "temperature")
        probabilities = [
            math.exp(other.sampled_logprob)
            for other in entry.alternatives
            if other.sampled_logprob is not None
        ]
        record("probabilities after the controls: sum but one", abs(sum(probabilities) - 1), 1e-5)
        token_id = sampled[2 * number].token_id
        assert token_id is not None
        assert entry.sampled_logprob == pytest.approx(float(left[token_id]), abs=CLOSE)
        assert entry.alternatives[entry.rank - 1].token_id == token_id


def test_the_test_rows_exercise_every_filter() -> None:
    """The rows above are such that each control that can remove a token does."""
    names: set[str] = set()
    for rows, logits in map(make_rows, SEEDS):
        for row, own in zip(rows, logits, strict=True):
            names |= set(follow(row, own[:SMALL]).removed_by.values())
    changing = {"logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty"}
    assert names == set(CONTROL_ORDER) - changing - {"dry_multiplier", "temperature"}
