"""Each control matches its definition elsewhere, alone and with the others, in one batch.

The definitions are transformers' processors and published ones, in `reference.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gptj_demo.engine.sampling import Controlled
from gptj_demo.sampling import CONTROL_ORDER, FILTERS
from tests.conftest import Record
from tests.engine.sampling.reference import Row, follow, nudged
from tests.engine.sampling.rows import (
    ANY_SEED,
    BATCHES,
    SPREADS,
    VOCABULARIES,
    batch_of,
    control,
    random_logits,
    rows,
)


def assert_equal(
    name: str, rows: list[Row], logits: torch.Tensor, actual: Controlled, record: Record
) -> None:
    """The controlled logits are those of the reference: removed sets and values.

    A token whose probability or cumulative probability equals the limit up to rounding may fall on
    either side: one token a row, or two that swap places in the order of typical-p.
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
        record(f"{name}: tokens on either side of a limit, a row", len(differing), 2)
        both = ~ours.isinf() & ~theirs.isinf()
        assert both.any()
        size = theirs[both].abs().clamp(min=1.0)
        difference = ((ours[both] - theirs[both]).abs() / size).max()
        record(f"{name}: logits", float(difference), 1e-5)


def is_on_the_boundary(row: Row, logits: torch.Tensor, token: int) -> bool:
    """Whether moving the limits or the token's logit by 1e-5 decides if the token is kept."""
    kept = {bool(follow(nudged(row, by), logits).scores[token] > -math.inf) for by in (1e-5, -1e-5)}
    for by in (1e-5, -1e-5):
        moved = logits.clone()
        moved[token] += by
        kept.add(bool(follow(row, moved).scores[token] > -math.inf))
    return kept == {True, False}


@pytest.mark.comparison
@pytest.mark.parametrize("name", CONTROL_ORDER)
@BATCHES
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_each_control_alone_matches_its_definition(
    record: Record, name: str, data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    """The batch mixes rows with different values of the control and rows without it."""
    with_it, without = rows(vocabulary, (name,)), rows(vocabulary, ())
    batch = data.draw(st.lists(st.one_of(with_it, without), min_size=1, max_size=4))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    assert_equal(name, batch, logits, control(batch, logits), record)


@pytest.mark.comparison
@settings(BATCHES, max_examples=200)
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_controls_together_match_their_definitions_in_the_documented_order(
    record: Record, data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    names = st.sets(st.sampled_from(CONTROL_ORDER), min_size=2).map(
        lambda some: tuple(sorted(some))
    )
    row = names.flatmap(lambda some: rows(vocabulary, some))
    batch = data.draw(st.lists(row, min_size=1, max_size=6))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    assert_equal("in combination", batch, logits, control(batch, logits), record)


@pytest.mark.comparison
@settings(BATCHES, max_examples=200)
@given(data=st.data(), vocabulary=VOCABULARIES, spread=SPREADS, seed=ANY_SEED)
def test_each_row_applies_the_filters_in_its_own_order(
    record: Record, data: st.DataObject, vocabulary: int, spread: float, seed: int
) -> None:
    """The batch mixes rows with different orders and rows with the default order."""
    names = st.sets(st.sampled_from(FILTERS), min_size=2).map(lambda some: tuple(sorted(some)))
    row = names.flatmap(lambda some: rows(vocabulary, some))
    orders = st.one_of(st.just(FILTERS), st.permutations(FILTERS).map(tuple))
    ordered = st.builds(
        lambda one, order: replace(one, settings={**one.settings, "sampler_order": order}),
        row,
        orders,
    )
    batch = data.draw(st.lists(ordered, min_size=1, max_size=6))
    logits = random_logits(len(batch), vocabulary, seed, spread)
    assert_equal("in any order", batch, logits, control(batch, logits), record)


@pytest.mark.comparison
@pytest.mark.parametrize("typical_p", [0.0625, 0.3, 0.7])
@pytest.mark.parametrize("vocabulary", [3, 5000])
def test_typical_p_keeps_the_most_typical_tokens_even_if_others_are_more_probable(
    record: Record, vocabulary: int, typical_p: float
) -> None:
    """If all tokens are almost equally probable, the most probable one is often not typical."""
    row = Row(settings={"typical_p": typical_p})
    for seed in range(20):
        logits = random_logits(1, vocabulary, seed, spread=0.2)
        assert_equal("typical-p, nearly even", [row], logits, control([row], logits), record)


def test_top_p_before_the_temperature_keeps_the_same_tokens_as_at_temperature_one() -> None:
    logits = random_logits(1, 50, seed=3)
    kept = []
    for settings_ in (
        {"top_p": 0.7},
        {"top_p": 0.7, "temperature": 1.9},
        {"top_p": 0.7, "temperature": 1.9, "sampler_order": (*FILTERS[1:], "temperature")},
    ):
        scaled = control([Row(settings_)], logits).scaled
        assert scaled is not None
        kept.append((scaled > -math.inf).tolist())
    assert kept[0] == kept[2] != kept[1]


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
        {"tfs": 0.95},
        {"top_a": 0.2},
        {"mirostat": "2", "mirostat_tau": 5.0},
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
    assert batch_of([row], 300).sample(logits)[0].token_id == int(logits.argmax())


def test_xtc_with_threshold_zero_keeps_the_least_probable_remaining_token() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    row = Row({"top_k": 3, "xtc_probability": 1.0, "xtc_threshold": 0.0})
    assert batch_of([row], 4).sample(logits)[0].token_id == 2


def test_an_emptied_row_with_healing_takes_the_most_probable_allowed_first_token() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    row = Row(first_token_ids=(2, 3), bad_words=((2,), (3,)))
    sampled = batch_of([row], 4).sample(logits)[0]
    assert (sampled.token_id, sampled.filtered_away) == (2, True)
