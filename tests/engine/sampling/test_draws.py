"""Tokens are drawn with the probabilities that the controls leave, by reproducible noise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gptj_demo.engine.sampling import SamplerBatch, noise
from tests.conftest import Record
from tests.engine.sampling.reference import Row, follow, xtc_acts, xtc_removed
from tests.engine.sampling.rows import CPU, batch_of, random_logits

DRAWS = 20_000

TWENTY = 20  # ids, few enough that each is drawn often
SETTINGS_OF_DRAWS: dict[str, Row] = {
    "no control": Row(),
    "temperature": Row({"temperature": 0.5}),
    "temperature, top_k": Row({"temperature": 1.75, "top_k": 5}),
    "top_p": Row({"top_p": 0.8}),
    "temperature, top_k, top_p": Row({"temperature": 1.25, "top_k": 8, "top_p": 0.6}),
    "min_p": Row({"min_p": 0.1, "temperature": 1.5}),
    "typical_p": Row({"typical_p": 0.7}),
    "epsilon_cutoff": Row({"epsilon_cutoff": 0.03}),
    "eta_cutoff": Row({"eta_cutoff": 0.2}),
    "tfs": Row({"tfs": 0.98}),
    "top_a": Row({"top_a": 0.3}),
    "mirostat": Row({"mirostat": "2", "mirostat_tau": 2.0}),
    "repetition_penalty": Row({"repetition_penalty": 1.5}, prompt=(1, 7, 7, 12)),
    "presence and frequency penalty": Row(
        {"presence_penalty": 0.5, "frequency_penalty": 0.75}, generated=(3, 3, 5, 10)
    ),
    "logit_bias": Row(logit_bias=(((4,), 2.0), ((9, 6), 3.0)), prompt=(9,)),
    "bad_words, min_new_tokens": Row({"min_new_tokens": 5}, bad_words=((2,), (0, 11))),
    "DRY": Row({"dry_multiplier": 1.0, "dry_allowed_length": 1}, prompt=(1, 2, 3, 1, 2)),
    "all filters": Row(
        {
            "temperature": 1.5,
            "top_k": 15,
            "top_p": 0.98,
            "min_p": 0.02,
            "typical_p": 0.95,
            "epsilon_cutoff": 0.01,
            "eta_cutoff": 0.02,
        }
    ),
}


def chi_square_limit(degrees: int) -> float:
    """The upper 0.1 % point of chi-square, within a percent (Wilson and Hilferty 1931)."""
    part = 2 / (9 * degrees)
    return degrees * (1 - part + 3.0902 * math.sqrt(part)) ** 3


def assert_drawn_from(
    name: str, probabilities: torch.Tensor, tokens: list[int], record: Record
) -> None:
    """A chi-square test of the draws at the 0.1 % level; what is impossible was never drawn."""
    expected = probabilities.double() * len(tokens)
    assert len(tokens) == DRAWS
    counts = torch.bincount(torch.tensor(tokens), minlength=len(probabilities)).double()
    assert counts[probabilities == 0].sum() == 0
    rare = (expected < 5) & (probabilities > 0)  # too rare for the test: counted as one
    common = expected >= 5
    cells = torch.cat((expected[common], expected[rare].sum()[None]))
    drawn = torch.cat((counts[common], counts[rare].sum()[None]))
    drawn, cells = drawn[cells > 0], cells[cells > 0]
    statistic = float(((drawn - cells) ** 2 / cells).sum())
    limit = chi_square_limit(len(cells) - 1)
    record(f"draws, chi-square: {name}", statistic, limit, len(tokens))


def draw_with_many_seeds(row: Row, logits: torch.Tensor) -> list[int]:
    samplers = [row.sampler(seed) for seed in range(DRAWS)]
    batch = SamplerBatch(samplers, TWENTY, CPU)
    sampled = batch.sample(logits.expand(DRAWS, -1))
    return [one.token_id for one in sampled if one.token_id is not None]


@pytest.mark.comparison
@pytest.mark.parametrize("name", SETTINGS_OF_DRAWS)
def test_draws_of_many_seeds_follow_the_exact_probabilities(record: Record, name: str) -> None:
    row, logits = SETTINGS_OF_DRAWS[name], random_logits(1, TWENTY, seed=3, spread=1.5)
    probabilities = follow(row, logits[0]).scores.double().softmax(0)
    assert_drawn_from(name, probabilities, draw_with_many_seeds(row, logits), record)


@pytest.mark.comparison
def test_draws_with_xtc_follow_the_exact_probabilities(record: Record) -> None:
    """XTC acts at random, so the probabilities are a mixture of both cases."""
    row = Row({"xtc_probability": 0.4, "xtc_threshold": 0.06})
    logits = random_logits(1, TWENTY, seed=3, spread=1.5)
    left = logits[0].clone()
    left[xtc_removed(logits[0], 0.06)] = -math.inf
    assert (left == -math.inf).sum() >= 2
    probabilities = 0.6 * logits[0].double().softmax(0) + 0.4 * left.double().softmax(0)
    assert_drawn_from("XTC", probabilities, draw_with_many_seeds(row, logits), record)
    assert 350 < sum(xtc_acts(replace(row, seed=seed)) for seed in range(1000)) < 450


@pytest.mark.comparison
def test_draws_at_many_positions_follow_the_exact_probabilities(record: Record) -> None:
    """2,000 tokens of each of ten seeds."""
    logits = random_logits(1, TWENTY, seed=3, spread=1.5)
    batch = SamplerBatch([Row().sampler(seed) for seed in range(10)], TWENTY, CPU)
    sampled = [one for _ in range(2000) for one in batch.sample(logits.expand(10, -1))]
    tokens = [one.token_id for one in sampled if one.token_id is not None]
    assert_drawn_from("positions of ten seeds", logits[0].softmax(0), tokens, record)


def test_the_draw_depends_on_the_position_in_the_sequence_not_on_the_prompts_length() -> None:
    """A request that goes on from its own words draws the same tokens with the same seed."""
    logits = random_logits(1, 500, seed=6)
    whole = Row(prompt=(1, 2), generated=(7, 8, 9), seed=42)
    resumed = Row(prompt=(1, 2, 7, 8, 9), seed=42)
    other_seed = Row(prompt=(1, 2, 7, 8, 9), seed=43)
    tokens = [
        batch_of([row], 500).sample(logits)[0].token_id for row in (whole, resumed, other_seed)
    ]
    assert tokens[0] == tokens[1] != tokens[2]


# ---- the noise itself


SPLITMIX64 = {
    0: (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC),
    1234567: (
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ),
}
"""Published outputs: Vigna's splitmix64.c and Rosetta Code."""


@pytest.mark.parametrize("seed", SPLITMIX64)
def test_the_generator_gives_the_published_numbers(seed: int) -> None:
    numbers = SPLITMIX64[seed]
    assert tuple(noise.output(seed, index) for index in range(len(numbers))) == numbers
    by_numpy = noise.position_keys(np.full(len(numbers), seed, np.uint64), range(len(numbers)))
    assert tuple(by_numpy.tolist()) == numbers
    keys = torch.tensor([[seed]])
    by_torch = noise.uniforms(keys, noise.increments(len(numbers), CPU))[0].tolist()
    assert by_torch == [noise.uniform(number) for number in numbers]


def test_uniforms_lie_strictly_between_zero_and_one() -> None:
    assert 0 < noise.uniform(0) < 2**-52
    assert noise.uniform(2**64 - 1) == 1 - 2**-53


def race(weights: torch.Tensor, key: int) -> int:
    """The draw by its definition, with Python's integers and floats."""
    uniforms = [noise.uniform(noise.output(key, token)) for token in range(len(weights))]
    gumbel = [-math.log(-math.log(u)) for u in uniforms]
    scores = [
        math.log(weight) + one if weight > 0 else -math.inf
        for weight, one in zip(weights.tolist(), gumbel, strict=True)
    ]
    return scores.index(max(scores))


@pytest.mark.parametrize("filters", [{}, {"top_p": 0.9}, {"typical_p": 0.8}])
def test_the_draw_is_gumbel_max_over_what_the_filters_leave(filters: dict[str, Any]) -> None:
    rows = [Row({"temperature": 0.7, **filters}, seed=seed) for seed in range(20)]
    logits = random_logits(len(rows), 3000, seed=5)
    batch = batch_of(rows, 3000)
    scaled = batch.controlled(logits).scaled
    assert scaled is not None
    sampled = batch.sample(logits)
    for row, left, one in zip(rows, scaled, sampled, strict=True):
        key = noise.output(noise.output(0, row.seed), len(row.prompt))
        assert one.token_id == race(left.double().softmax(0), key)


def inverse_cdf(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """How tokens were drawn before: [rows, vocabulary] and [rows, 1] to [rows]."""
    cumulative = logits.double().softmax(dim=1).cumsum(dim=1)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]


@pytest.mark.comparison
def test_most_draws_survive_one_percent_of_noise_on_the_logits(record: Record) -> None:
    """Rounding and other devices change logits a little, which seldom changes the drawn token."""
    seeds, vocabulary = 2000, 50_257
    logits = random_logits(1, vocabulary, seed=9, spread=2.5)
    generator = torch.Generator().manual_seed(1)
    kept, kept_by_inverse_cdf = 0, 0
    for first in range(0, seeds, 50):
        own = logits.expand(50, -1)
        noised = own * (1 + 0.01 * torch.randn(own.shape, generator=generator))
        rows = [Row(seed=seed) for seed in range(first, first + 50)]
        tokens = [
            [one.token_id for one in batch_of(rows, vocabulary).sample(some)]
            for some in (own, noised)
        ]
        kept += sum(one == other for one, other in zip(*tokens, strict=True))
        uniform = torch.rand(50, 1, generator=generator, dtype=torch.float64)
        same = inverse_cdf(own, uniform) == inverse_cdf(noised, uniform)
        kept_by_inverse_cdf += int(same.sum())
    print(f"kept: {kept} of {seeds}, by inverse CDF {kept_by_inverse_cdf}")
    record("draws changed by 1 % noise on logits, a seed", 1 - kept / seeds, 0.05, seeds)
    assert kept > kept_by_inverse_cdf
