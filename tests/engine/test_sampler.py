"""Each control is what its name means elsewhere, alone and with the others, in one batch.

What the controls mean is said by transformers' processors and by the published definitions, in
`tests.engine.controls`.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from gptj_demo.engine.sampler import Controlled, SamplerBatch
from gptj_demo.engine.sampling import noise
from gptj_demo.sampling import FILTER_ORDER
from tests.conftest import Record
from tests.engine.controls import Row, follow, nudged, xtc_acts, xtc_removed

CPU = torch.device("cpu")
DRAWS = 20_000


def batch_of(rows: list[Row], vocabulary: int) -> SamplerBatch:
    return SamplerBatch([row.sampler(vocabulary) for row in rows], vocabulary, CPU)


def control(rows: list[Row], logits: torch.Tensor) -> Controlled:
    return batch_of(rows, logits.shape[1]).controlled(logits, [row.step for row in rows])


def random_logits(rows: int, vocabulary: int, seed: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocabulary, generator=generator) * spread


# ---- random rows


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "repetition_penalty": st.builds(lambda value: {"repetition_penalty": value}, numbers(0.5, 2.0)),
    "no_repeat_ngram_size": st.builds(
        lambda value: {"no_repeat_ngram_size": value}, st.integers(1, 4)
    ),
    "min_new_tokens": st.builds(
        lambda value, ends: {"min_new_tokens": value, "stop_token_ids": ends},
        st.integers(1, 8),
        st.lists(st.integers(0, 2), max_size=2).map(tuple),
    ),
    "presence_penalty": st.builds(lambda value: {"presence_penalty": value}, numbers(-2.0, 2.0)),
    "frequency_penalty": st.builds(lambda value: {"frequency_penalty": value}, numbers(-2.0, 2.0)),
    "dry_multiplier": st.builds(
        lambda multiplier, base, length: {
            "dry_multiplier": multiplier,
            "dry_base": base,
            "dry_allowed_length": length,
        },
        numbers(0.125, 5.0),
        numbers(1.0, 4.0),
        st.integers(1, 4),
    ),
    "temperature": st.builds(
        lambda value: {"temperature": value},
        st.one_of(st.just(0.0), numbers(0.0625, 2.0)),
    ),
    "top_k": st.builds(
        lambda value: {"top_k": value}, st.one_of(st.integers(1, 40), st.sampled_from([300, 1000]))
    ),
    "top_p": st.builds(lambda value: {"top_p": value}, numbers(0.0, 0.9990234375)),
    "min_p": st.builds(lambda value: {"min_p": value}, numbers(0.0009765625, 1.0)),
    "typical_p": st.builds(lambda value: {"typical_p": value}, numbers(0.015625, 0.9990234375)),
    "epsilon_cutoff": st.builds(
        lambda value: {"epsilon_cutoff": value}, numbers(0.0001220703125, 0.5)
    ),
    "eta_cutoff": st.builds(lambda value: {"eta_cutoff": value}, numbers(0.0001220703125, 0.5)),
    "xtc_probability": st.builds(
        lambda probability, threshold: {
            "xtc_probability": probability,
            "xtc_threshold": threshold,
        },
        st.sampled_from([0.5, 1.0]),
        st.one_of(st.just(0.0), numbers(0.0078125, 0.5)),
    ),
}


@st.composite
def rows(draw: st.DrawFn, vocabulary: int, names: tuple[str, ...]) -> Row:
    """A row with those controls; its tokens are few different ones, so that they repeat."""
    token = st.integers(0, min(vocabulary, 5) - 1)
    sequence = st.lists(token, min_size=1, max_size=3).map(tuple)
    values: dict[str, Any] = {}
    for name in names:
        if name in SETTINGS:
            values |= draw(SETTINGS[name])
    row = Row(
        values,
        prompt=draw(st.lists(token, min_size=1, max_size=12).map(tuple)),
        generated=draw(st.lists(token, max_size=10).map(tuple)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    if "logit_bias" in names:
        biases = st.dictionaries(sequence, numbers(-20.0, 20.0), min_size=1, max_size=6)
        row = replace(row, logit_bias=tuple(draw(biases).items()))
    if "bad_words" in names:
        words = draw(st.lists(sequence, min_size=1, max_size=4, unique=True))
        row = replace(row, bad_words=tuple(words))
    if "token_healing" in names:
        first = draw(st.sets(st.integers(0, vocabulary - 1), min_size=1, max_size=6))
        row = replace(row, first_token_ids=tuple(sorted(first)))
        if draw(st.booleans()):
            row = replace(row, generated=())
    if "dry_multiplier" in names:
        breakers = draw(st.sets(token, max_size=1))
        row = replace(row, dry_sequence_breakers=frozenset(breakers))
    return row


BATCHES = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
VOCABULARIES = st.sampled_from([3, 50, 700])
SPREADS = st.sampled_from([0.1, 1.0, 4.0, 20.0])
ANY_SEED = st.integers(0, 2**32 - 1)


def assert_equal(
    name: str, rows: list[Row], logits: torch.Tensor, actual: Controlled, record: Record
) -> None:
    """The controlled logits are those of the reference: removed sets and values.

    A token whose probability, or the cumulated one, is the limit itself but for rounding may fall
    on either side: one a row, and only if limits a little looser and tighter have it both ways.
    """
    for number, row in enumerate(rows):
        expected = follow(row, logits[number])
        greedy = row.params.temperature == 0
        assert (actual.emptied is not None and actual.emptied[number]) == expected.emptied
        if greedy:
            ours = actual.adjusted[number]
        else:
            assert actual.scaled is not None
            ours = actual.scaled[number]
        theirs = expected.scores
        differing = (ours.isinf() != theirs.isinf()).nonzero()[:, 0].tolist()
        for token in differing:
            assert is_on_the_boundary(row, logits[number], token), (row, token)
        record(f"{name}: tokens on either side of a limit, a row", len(differing), 1)
        both = ~ours.isinf() & ~theirs.isinf()
        assert both.any()
        size = theirs[both].abs().clamp(min=1.0)
        difference = ((ours[both] - theirs[both]).abs() / size).max()
        record(f"{name}: logits", float(difference), 1e-5)


def is_on_the_boundary(row: Row, logits: torch.Tensor, token: int) -> bool:
    looser, tighter = (follow(nudged(row, by), logits).scores[token] for by in (1e-5, -1e-5))
    return bool(looser > -math.inf) and bool(tighter == -math.inf)


@pytest.mark.comparison
@pytest.mark.parametrize("name", FILTER_ORDER)
@BATCHES
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_each_control_alone_is_that_of_its_name(
    record: Record, name: str, data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    """Rows that use it differently stand beside rows that do not."""
    with_it, without = rows(vocabulary, (name,)), rows(vocabulary, ())
    batch = data.draw(st.lists(st.one_of(with_it, without), min_size=1, max_size=4))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    assert_equal(name, batch, logits, control(batch, logits), record)


@pytest.mark.comparison
@settings(BATCHES, max_examples=200)
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_controls_together_are_those_of_their_names_in_the_documented_order(
    record: Record, data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    names = st.sets(st.sampled_from(FILTER_ORDER), min_size=2).map(lambda some: tuple(sorted(some)))
    row = names.flatmap(lambda some: rows(vocabulary, some))
    batch = data.draw(st.lists(row, min_size=1, max_size=6))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    assert_equal("in combination", batch, logits, control(batch, logits), record)


@pytest.mark.comparison
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_the_filters_are_exact_over_the_vocabulary_of_gpt_j(record: Record, spread: float) -> None:
    values: list[dict[str, Any]] = [
        {"top_p": 0.95},
        {"top_p": 0.999, "temperature": 1.5},
        {"top_k": 1000, "top_p": 0.9},
        {"min_p": 0.02},
        {"typical_p": 0.9},
        {"epsilon_cutoff": 0.0003},
        {"eta_cutoff": 0.0003},
        {"temperature": 0.7, "top_k": 40, "xtc_probability": 1.0, "xtc_threshold": 0.05},
    ]
    batch = [Row(one, seed=number) for number, one in enumerate(values)]
    logits = random_logits(len(batch), 50_400, seed=8, spread=spread)
    assert_equal("over 50,400 ids", batch, logits, control(batch, logits), record)


def test_a_large_top_k_is_exact_beside_a_row_without_one() -> None:
    logits = random_logits(2, 2000, seed=1, spread=0.1)
    controlled = control([Row({"top_k": 700}), Row()], logits).scaled
    assert controlled is not None
    assert (controlled > -math.inf).sum(dim=1).tolist() == [700, 2000]


@pytest.mark.parametrize("temperature", [1e-4, 1e-38, 5e-324])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature: float) -> None:
    logits = random_logits(1, 300, seed=4, spread=30.0)
    row = Row({"temperature": temperature, "min_p": 0.1, "typical_p": 0.9, "eta_cutoff": 0.01})
    assert batch_of([row], 300).sample(logits, [0])[0].token_id == int(logits.argmax())


def test_xtc_with_threshold_zero_leaves_the_least_probable_of_what_the_filters_left() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    row = Row({"top_k": 3, "xtc_probability": 1.0, "xtc_threshold": 0.0})
    assert batch_of([row], 4).sample(logits, [0])[0].token_id == 2


def test_an_emptied_row_that_heals_takes_the_likeliest_of_the_tokens_it_may_begin_with() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    row = Row(first_token_ids=(2, 3), bad_words=((2,), (3,)))
    sampled = batch_of([row], 4).sample(logits, [0])[0]
    assert (sampled.token_id, sampled.filtered_away) == (2, True)


# ---- draws

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
    samplers = [row.sampler(TWENTY, seed) for seed in range(DRAWS)]
    batch = SamplerBatch(samplers, TWENTY, CPU)
    sampled = batch.sample(logits.expand(DRAWS, -1), [row.step] * DRAWS)
    return [one.token_id for one in sampled if one.token_id is not None]


@pytest.mark.comparison
@pytest.mark.parametrize("name", SETTINGS_OF_DRAWS)
def test_draws_of_many_seeds_follow_the_exact_probabilities(record: Record, name: str) -> None:
    row, logits = SETTINGS_OF_DRAWS[name], random_logits(1, TWENTY, seed=3, spread=1.5)
    probabilities = follow(row, logits[0]).scores.double().softmax(0)
    assert_drawn_from(name, probabilities, draw_with_many_seeds(row, logits), record)


@pytest.mark.comparison
def test_draws_with_xtc_follow_the_exact_probabilities(record: Record) -> None:
    """Whether it acts is drawn too: the probabilities are those of both cases, mixed."""
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
    samplers = [Row({"max_new_tokens": 2000}).sampler(TWENTY, seed) for seed in range(10)]
    batch = SamplerBatch([row for row in samplers for _ in range(2000)], TWENTY, CPU)
    sampled = batch.sample(logits.expand(DRAWS, -1), list(range(2000)) * 10)
    tokens = [one.token_id for one in sampled if one.token_id is not None]
    assert_drawn_from("positions of ten seeds", logits[0].softmax(0), tokens, record)


def test_the_draw_depends_on_the_position_in_the_sequence_not_on_the_prompts_length() -> None:
    """A request that goes on from its own words draws the same tokens with the same seed."""
    logits = random_logits(1, 500, seed=6)
    whole = Row(prompt=(1, 2), generated=(7, 8, 9), seed=42)
    resumed = Row(prompt=(1, 2, 7, 8, 9), seed=42)
    other_seed = Row(prompt=(1, 2, 7, 8, 9), seed=43)
    tokens = [
        batch_of([row], 500).sample(logits, [row.step])[0].token_id
        for row in (whole, resumed, other_seed)
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


def test_uniforms_lie_strictly_between_zero_and_one_and_reach_far() -> None:
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
    scaled = batch.controlled(logits, [0] * len(rows)).scaled
    assert scaled is not None
    sampled = batch.sample(logits, [0] * len(rows))
    for row, left, one in zip(rows, scaled, sampled, strict=True):
        key = noise.output(noise.output(0, row.seed), len(row.prompt))
        assert one.token_id == race(left.double().softmax(0), key)


def inverse_cdf(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """How tokens were drawn before: [rows, vocabulary] and [rows, 1] to [rows]."""
    cumulative = logits.double().softmax(dim=1).cumsum(dim=1)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)[:, 0]


@pytest.mark.comparison
def test_most_draws_survive_one_percent_of_noise_on_the_logits(record: Record) -> None:
    """What rounding and another device do to logits seldom changes the token that is drawn."""
    seeds, vocabulary = 2000, 50_257
    logits = random_logits(1, vocabulary, seed=9, spread=2.5)
    generator = torch.Generator().manual_seed(1)
    kept, kept_by_inverse_cdf = 0, 0
    for first in range(0, seeds, 50):
        own = logits.expand(50, -1)
        noised = own * (1 + 0.01 * torch.randn(own.shape, generator=generator))
        rows = [Row(seed=seed) for seed in range(first, first + 50)]
        tokens = [
            [one.token_id for one in batch_of(rows, vocabulary).sample(some, [0] * 50)]
            for some in (own, noised)
        ]
        kept += sum(one == other for one, other in zip(*tokens, strict=True))
        uniform = torch.rand(50, 1, generator=generator, dtype=torch.float64)
        same = inverse_cdf(own, uniform) == inverse_cdf(noised, uniform)
        kept_by_inverse_cdf += int(same.sum())
    print(f"kept: {kept} of {seeds}, by inverse CDF {kept_by_inverse_cdf}")
    record("draws changed by 1 % noise on logits, a seed", 1 - kept / seeds, 0.05, seeds)
    assert kept > kept_by_inverse_cdf


# ---- rows and their neighbours


@settings(BATCHES, max_examples=60)
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_a_row_draws_the_same_alone_and_beside_rows_of_all_kinds(
    data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    """To the last bit: logits after the controls, token, and probabilities."""
    names = st.sets(st.sampled_from(FILTER_ORDER), max_size=6).map(lambda some: tuple(sorted(some)))
    row = names.flatmap(lambda some: rows(vocabulary, some))
    batch = data.draw(st.lists(row, min_size=2, max_size=8))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    steps = [one.step for one in batch]
    together = batch_of(batch, vocabulary)
    controlled, sampled = together.controlled(logits, steps), together.sample(logits, steps)
    for number, one in enumerate(batch):
        single = batch_of([one], vocabulary)
        own = logits[number : number + 1]
        alone = single.controlled(own, steps[number : number + 1])
        assert torch.equal(alone.adjusted[0], controlled.adjusted[number])
        if alone.scaled is not None:
            assert controlled.scaled is not None
            assert torch.equal(alone.scaled[0], controlled.scaled[number])
        assert single.sample(own, steps[number : number + 1])[0] == sampled[number]


def test_a_row_draws_the_same_alone_also_where_torch_uses_several_threads() -> None:
    """Over GPT-J's vocabulary, where it cuts a sum over one row in two and one over many not."""
    values = {"top_p": 0.95, "typical_p": 0.9, "eta_cutoff": 0.0003, "logprobs": 20}
    batch = [Row(values, seed=seed) for seed in range(8)]
    logits = random_logits(len(batch), 50_400, seed=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = batch_of(batch, 50_257).sample(logits, [0] * len(batch))
        for number, row in enumerate(batch):
            own = logits[number : number + 1]
            assert batch_of([row], 50_257).sample(own, [0])[0] == together[number]
    finally:
        torch.set_num_threads(threads)


def test_what_was_chosen_counts_for_the_penalties_of_the_next_tokens() -> None:
    """Rows join other rows between the tokens, and take along what they know."""
    logits = torch.tensor([[3.0, 2.0, -1.0]])
    row = Row({"temperature": 0, "repetition_penalty": 2.0}, prompt=(2,)).sampler(3)
    other = Row({"repetition_penalty": 1.5, "presence_penalty": 1.0}).sampler(3)
    chosen = []
    for step, batch in enumerate(([row], [other, row], [row, other], [row])):
        both = logits.expand(len(batch), -1)
        sampled = SamplerBatch(batch, 3, CPU).sample(both, [step] * len(batch))
        chosen.append(sampled[batch.index(row)].token_id)
    assert chosen == [0, 1, 0, 0]  # 3, 2, -1; then 1.5, 2, -2; then 1.5, 1, -2 from there on


def test_temperature_zero_takes_the_likeliest_token_whatever_the_filters() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9], [5.0, 1.0, 1.0]])
    filters = {"top_k": 2, "top_p": 0.5, "typical_p": 0.1, "xtc_probability": 1.0}
    greedy, sampled = Row({"temperature": 0, **filters}), Row(seed=1)
    assert [one.token_id for one in batch_of([greedy] * 2, 3).sample(logits, [0, 0])] == [1, 0]
    assert batch_of([greedy, sampled], 3).sample(logits, [0, 0])[0].token_id == 1


def test_ids_past_the_vocabulary_are_never_drawn() -> None:
    logits = torch.full((2, 8), 50.0)
    logits[:, :5] = 0.0
    tokens = []
    for seed in range(50):
        rows = [Row(seed=seed), Row({"temperature": 0})]
        tokens += [one.token_id for one in batch_of(rows, 5).sample(logits, [0, 0])]
    assert set(tokens) == set(range(5))


# ---- rows with nothing left, and rows that are not numbers


def test_where_nothing_is_left_the_likeliest_token_stays_and_the_row_says_so() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]] * 3)
    everything = ((0,), (1,), (2,))
    drawn, greedy = Row(bad_words=everything), Row({"temperature": 0}, bad_words=everything)
    sampled = batch_of([drawn, Row({"temperature": 0}), greedy], 3).sample(logits, [0] * 3)
    assert [one.token_id for one in sampled] == [1, 1, 1]
    assert [one.filtered_away for one in sampled] == [True, False, True]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 6])
def test_a_row_of_not_a_numbers_has_no_token_and_its_neighbours_keep_theirs(
    value: float, place: int
) -> None:
    values = {"logprobs": 3, "top_p": 0.9, "typical_p": 0.9, "eta_cutoff": 0.1, "top_k": 4}
    penalties = {"repetition_penalty": 1.5, "frequency_penalty": 1.0, "dry_multiplier": 1.0}
    batch = [Row({**values, **penalties, "no_repeat_ngram_size": 2}, seed=n) for n in range(3)]
    batch.append(Row({"temperature": 0, "logprobs": 2}))
    logits = random_logits(4, 7, seed=0)
    sound = batch_of(batch, 7).sample(logits, [0] * 4)
    for broken in range(4):
        spoiled = logits.clone()
        spoiled[broken, place] = value
        sampled = batch_of(batch, 7).sample(spoiled, [0] * 4)
        assert sampled[broken].token_id is None
        assert sampled[broken].logprobs is None
        neighbours = [number for number in range(4) if number != broken]
        assert [sampled[n] for n in neighbours] == [sound[n] for n in neighbours]


def test_a_token_that_the_model_itself_rules_out_breaks_nothing() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf]])
    row = Row({"typical_p": 0.9, "eta_cutoff": 0.1, "repetition_penalty": 0.5, "top_p": 0.9})
    assert batch_of([row], 3).sample(logits, [0])[0].token_id == 1


# ---- the compiled way and that of torch, which CUDA takes


@pytest.fixture
def without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptj_demo.engine.sampler._compiled", lambda: None)


def leaves_and_draws(batch: list[Row], logits: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
    """What the controls leave of each row, and its token."""
    scaled = control(batch, logits).scaled
    assert scaled is not None
    return scaled, batch_of(batch, logits.shape[1]).sample(logits, [0] * len(batch))


@pytest.mark.parametrize("vocabulary", [3, 50, 4096])
def test_torch_leaves_and_draws_the_same_as_compiled_code(
    vocabulary: int, request: pytest.FixtureRequest
) -> None:
    limits: dict[str, tuple[Any, ...]] = {
        "temperature": (0.0, 1e-40, 0.5, 1.0, 2.0),
        "top_k": (0, 1, 2, 40, min(vocabulary, 1000)),
        "top_p": (0.0, 0.3, 0.95, 0.99, 1.0),
        "min_p": (0.0, 0.01, 0.5, 1.0),
    }
    choose = random.Random(vocabulary).choice
    batch = [
        Row({name: choose(values) for name, values in limits.items()}, seed=n) for n in range(200)
    ]
    logits = random_logits(200, vocabulary, seed=1)
    logits[:50] = logits[:50].round()  # many are equal
    logits[100:150, 1:] = -math.inf
    compiled = leaves_and_draws(batch, logits)
    request.getfixturevalue("without_compiled_code")
    by_torch = leaves_and_draws(batch, logits)
    assert torch.equal(by_torch[0], compiled[0])
    assert by_torch[1] == compiled[1]


# ---- what is not used costs nothing


class Operations(TorchDispatchMode):
    """Notes the names of the operations of torch that are carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations(batch: list[Row]) -> list[str]:
    sampler, logits = batch_of(batch, 50), random_logits(len(batch), 50, seed=0)
    with Operations() as done:
        sampler.sample(logits, [row.step for row in batch])
    return done.names


OFF = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "xtc_probability": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "dry_multiplier": 0.0,
    "min_new_tokens": 0,
    "temperature": 1.0,
}
ON: dict[str, Row] = {
    "logit_bias": Row(logit_bias=(((1,), 1.0),)),
    "repetition_penalty": Row({"repetition_penalty": 1.1}),
    "no_repeat_ngram_size": Row({"no_repeat_ngram_size": 1}),
    "bad_words": Row(bad_words=((1,),)),
    "min_new_tokens": Row({"min_new_tokens": 1}),
    "token_healing": Row(first_token_ids=(1, 2)),
    "presence_penalty": Row({"presence_penalty": 0.5}),
    "frequency_penalty": Row({"frequency_penalty": 0.5}),
    "dry_multiplier": Row({"dry_multiplier": 0.5, "dry_allowed_length": 1}, prompt=(1, 2, 1)),
    "temperature": Row({"temperature": 0.9}),
    "top_k": Row({"top_k": 5}),
    "top_p": Row({"top_p": 0.9}),
    "min_p": Row({"min_p": 0.1}),
    "typical_p": Row({"typical_p": 0.9}),
    "epsilon_cutoff": Row({"epsilon_cutoff": 0.1}),
    "eta_cutoff": Row({"eta_cutoff": 0.1}),
    "xtc_probability": Row({"xtc_probability": 0.5}),
}


@pytest.mark.usefixtures("without_compiled_code")
def test_a_batch_without_controls_does_no_more_than_draw() -> None:
    plain = operations([Row(), Row()])
    assert operations([Row(OFF), Row(OFF)]) == plain
    assert not {"topk", "sort", "_log_softmax", "index_put_"} & set(plain)
    assert plain.count("_softmax") == plain.count("log_") == 1
    assert "log_" not in operations([Row({"temperature": 0})])


@pytest.mark.usefixtures("without_compiled_code")
@pytest.mark.parametrize("name", FILTER_ORDER)
def test_a_control_costs_only_where_a_row_uses_it(name: str) -> None:
    plain, used = operations([Row(), Row()]), operations([ON[name], Row()])
    assert len(used) > len(plain)
    unused = [row for other, row in ON.items() if other != name]
    others = operations(unused)
    assert len(operations([*unused, ON[name]])) > len(others)


@pytest.mark.usefixtures("without_compiled_code")
def test_every_row_that_uses_a_control_shares_its_operations() -> None:
    """No operation for each row: as many for sixteen rows as for two."""
    for name, row in ON.items():
        if name != "token_healing":  # which takes a step of each request, the first
            assert len(operations([row] * 16)) == len(operations([row] * 2)), name
