"""Sampling against transformers' own processors and against the exact probabilities."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gptj_demo.engine.sampler import RowSampler, SamplerBatch
from gptj_demo.sampling import SamplingParams

CPU = torch.device("cpu")


def make_row(vocabulary: int, prompt: tuple[int, ...] = (), **values: float) -> RowSampler:
    params = SamplingParams(**{"top_p": 1.0, "temperature": 1.0, "seed": 0, **values})
    assert params.seed is not None
    return RowSampler(params, params.seed, prompt, vocabulary)


def filtered(row: RowSampler, logits: torch.Tensor) -> torch.Tensor:
    """Logits after all controls, [vocabulary]; -inf where a filter removed the token."""
    batch = SamplerBatch([row], logits.shape[-1], CPU)
    if batch.any_penalty:
        logits = batch._penalize(logits)
    scaled = logits / batch.temperature
    return scaled.masked_fill(scaled < batch._threshold(scaled), -torch.inf)[0]


def transformers_filtered(
    params: SamplingParams, prompt: tuple[int, ...], logits: torch.Tensor
) -> torch.Tensor:
    """The same with the processors and warpers of transformers, in its order."""
    processors = LogitsProcessorList()
    if params.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    if params.temperature != 1:
        processors.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    return processors(torch.tensor([prompt]), logits.clone())[0]


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.sampled_from([3, 50, 700]),
    spread=st.sampled_from([0.1, 1.0, 4.0, 20.0]),
    temperature=st.floats(0.1, 2.0),
    top_k=st.sampled_from([0, 1, 2, 40, 300, 1000]),
    top_p=st.floats(0.01, 1.0),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
)
def test_filters_keep_what_transformers_keeps(
    seed: int,
    vocabulary: int,
    spread: float,
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, vocabulary, generator=generator) * spread
    prompt = (0, vocabulary // 2)
    row = make_row(
        vocabulary,
        prompt,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    ours = filtered(row, logits)
    theirs = transformers_filtered(row.params, prompt, logits)
    # a token whose cumulated probability is top_p to the last bit may fall on either side
    differing = (ours.isinf() != theirs.isinf()).sum()
    assert differing <= 1
    if differing:
        probabilities = theirs.where(~theirs.isinf(), ours).softmax(0)
        assert probabilities[ours.isinf() != theirs.isinf()].min() < 0.05
    both = ~ours.isinf() & ~theirs.isinf()
    assert torch.allclose(ours[both], theirs[both], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1.7, "top_k": 5},
        {"top_p": 0.8},
        {"top_k": 8, "top_p": 0.6, "temperature": 1.3},
    ],
)
def test_draws_follow_the_exact_probabilities(values: dict[str, float]) -> None:
    """20,000 draws of one step with fixed seeds: a chi-square test at the 0.1 % level."""
    vocabulary, draws = 20, 20_000
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(3)) * 1.5
    expected = filtered(make_row(vocabulary, **values), logits).double().softmax(0)
    rows = [make_row(vocabulary, seed=seed, max_new_tokens=1, **values) for seed in range(draws)]
    chosen = SamplerBatch(rows, vocabulary, CPU).sample(logits.expand(draws, -1), [0] * draws)
    counts = torch.bincount(torch.tensor(chosen), minlength=vocabulary).double()
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - draws * expected)[possible] ** 2 / (draws * expected[possible])).sum()
    # upper 0.1 % points of chi-square for 1 to 19 degrees of freedom
    critical = [10.8, 13.8, 16.3, 18.5, 20.5, 22.5, 24.3, 26.1, 27.9, 29.6, 31.3, 32.9, 34.5, 36.1]
    critical += [37.7, 39.3, 40.8, 42.3, 43.8]
    assert statistic < critical[int(possible.sum()) - 2]


def test_temperature_zero_takes_the_likeliest_token() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, 1.0, 1.0]])
    greedy, sampled = make_row(3, temperature=0), make_row(3, seed=1)
    assert SamplerBatch([greedy, greedy], 3, CPU).sample(logits, [0, 0]) == [1, 0]
    assert SamplerBatch([greedy, sampled], 3, CPU).sample(logits, [0, 0])[0] == 1


def test_a_row_draws_the_same_whoever_shares_the_batch() -> None:
    vocabulary = 700
    logits = torch.randn(8, vocabulary, generator=torch.Generator().manual_seed(9)) * 2
    settings_of_rows: list[dict[str, float]] = [
        {},
        {"top_p": 0.9},
        {"top_k": 40},
        {"top_k": 600, "top_p": 0.99},
        {"temperature": 0},
        {"temperature": 2.0, "top_p": 0.999},  # needs more than the first candidates
        {"repetition_penalty": 1.2},
        {"temperature": 0.3, "top_p": 0.5},
    ]
    rows = [
        make_row(vocabulary, (1, 2, 3), seed=number, **values)
        for number, values in enumerate(settings_of_rows)
    ]
    together = SamplerBatch(rows, vocabulary, CPU).sample(logits, [5] * 8)
    rows = [
        make_row(vocabulary, (1, 2, 3), seed=number, **values)
        for number, values in enumerate(settings_of_rows)
    ]
    alone = [
        SamplerBatch([row], vocabulary, CPU).sample(logits[number : number + 1], [5])[0]
        for number, row in enumerate(rows)
    ]
    assert together == alone


def test_random_numbers_depend_on_seed_and_position_alone() -> None:
    short = make_row(10, seed=42, max_new_tokens=10).uniforms
    long = make_row(10, seed=42, max_new_tokens=500).uniforms
    other = make_row(10, seed=43, max_new_tokens=10).uniforms
    assert (short == long[:10]).all()
    assert (short != other).all()


def test_the_penalty_counts_what_was_generated_too() -> None:
    row = make_row(3, temperature=0, repetition_penalty=2.0)
    logits = torch.tensor([[3.0, 2.0, -1.0]])
    batch = SamplerBatch([row], 3, CPU)
    assert [batch.sample(logits, [step])[0] for step in range(2)] == [0, 1]
