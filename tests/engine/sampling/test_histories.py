"""How the tokens so far change the logits of the next one, against plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, SequenceBiasLogitsProcessor

from gptj_demo.engine.sampling.histories import (
    Changes,
    DontRepeatYourself,
    History,
    NoRepeatNgram,
    SequenceBias,
)
from tests.conftest import Record
from tests.engine.sampling.reference import dry_penalties

FEW = 4  # different tokens, so that they repeat
TOKENS = st.lists(st.integers(0, FEW - 1), min_size=1, max_size=80).map(tuple)
MANY = settings(derandomize=True, deadline=None, max_examples=150)


def added(changes: Changes) -> torch.Tensor:
    """What the changes add to each of a few logits."""
    logits = torch.zeros(FEW)
    for token, value in changes:
        logits[token] += value
    return logits


@MANY
@given(tokens=TOKENS, size=st.integers(1, 5))
def test_ngrams_are_forbidden_as_by_transformers(tokens: tuple[int, ...], size: int) -> None:
    history, theirs = NoRepeatNgram(size), NoRepeatNGramLogitsProcessor(size)
    for count, token in enumerate(tokens, start=1):
        history.add(token)
        expected = theirs(torch.tensor([tokens[:count]]), torch.zeros(1, FEW))[0]
        assert added(history.changes()).tolist() == expected.tolist()


def test_an_ngram_that_comes_often_is_listed_once() -> None:
    history = NoRepeatNgram(1)
    for _ in range(100):
        history.add(3)
    assert history.changes() == [(3, -math.inf)]


@MANY
@given(
    tokens=TOKENS,
    biases=st.dictionaries(
        st.lists(st.integers(0, FEW - 1), min_size=2, max_size=4).map(tuple),
        st.sampled_from([0.5, 2.0, -8.0, -math.inf]),
        min_size=1,
        max_size=8,
    ),
)
def test_sequences_are_biased_as_by_transformers(
    tokens: tuple[int, ...], biases: dict[tuple[int, ...], float]
) -> None:
    history, theirs = SequenceBias(list(biases.items())), SequenceBiasLogitsProcessor(biases)
    for count, token in enumerate(tokens, start=1):
        history.add(token)
        expected = theirs(torch.tensor([tokens[:count]]), torch.zeros(1, FEW))[0]
        assert added(history.changes()).tolist() == expected.tolist()


def dry(
    tokens: tuple[int, ...], allowed_length: int = 2, breakers: frozenset[int] = frozenset()
) -> dict[int, float]:
    history = DontRepeatYourself(1.0, 2.0, allowed_length, breakers)
    for token in tokens:
        history.add(token)
    return {token: -change for token, change in history.changes()}


@pytest.mark.comparison
@MANY
@given(
    tokens=TOKENS,
    allowed_length=st.integers(1, 5),
    breakers=st.frozensets(st.integers(0, FEW - 1), max_size=2),
)
def test_dry_penalties_equal_those_of_the_published_algorithm(
    record: Record, tokens: tuple[int, ...], allowed_length: int, breakers: frozenset[int]
) -> None:
    ours = dry(tokens, allowed_length, breakers)
    theirs = dry_penalties(tokens, 1.0, 2.0, allowed_length, breakers)
    assert ours.keys() == theirs.keys()
    record("DRY: penalties", max((abs(ours[t] - theirs[t]) for t in theirs), default=0.0), 1e-5)


def test_dry_grows_with_the_length_of_the_repetition() -> None:
    text = (1, 2, 3, 4, 5)
    assert dry((*text, 9, 1)) == {}
    assert dry((*text, 9, 1, 2)) == {3: 1.0}
    assert dry((*text, 9, 1, 2, 3)) == {4: 2.0}
    assert dry((*text, 9, 1, 2, 3, 4)) == {5: 4.0}


def test_dry_does_not_follow_repetitions_across_breakers() -> None:
    text = (1, 2, 3, 4, 5)
    assert dry((*text, 9, 1, 2, 3), breakers=frozenset({2})) == {}
    assert dry((*text, 9, 1, 2, 3, 4), breakers=frozenset({2})) == {5: 1.0}
    assert dry((*text, 9, 1, 2), breakers=frozenset({3})) == {}


@pytest.mark.parametrize("length", [49, 50, 51, 2000])
def test_dry_limits_the_length_of_a_repetition_to_fifty_tokens(length: int) -> None:
    """A repetition is followed back over at most fifty tokens."""
    tokens = tuple(range(10, 10 + length))
    text = (*tokens, 5, *tokens)
    expected = 2.0 ** (min(length, 50) - 2)
    assert dry(text) == {5: expected}
    assert dry_penalties(text, 1.0, 2.0, 2, frozenset()) == {5: expected}


def test_an_empty_history_changes_no_logits() -> None:
    for history in (NoRepeatNgram(2), SequenceBias([((1, 2), 1.0)]), dry_of_nothing()):
        assert history.changes() == []


def dry_of_nothing() -> DontRepeatYourself:
    return DontRepeatYourself(1.0, 2.0, 1, frozenset())


@MANY
@given(tokens=TOKENS, drafted=TOKENS, more=TOKENS)
@pytest.mark.parametrize("kind", ["ngram", "bias", "dry"])
def test_a_fork_takes_tokens_without_changing_the_history(
    kind: str, tokens: tuple[int, ...], drafted: tuple[int, ...], more: tuple[int, ...]
) -> None:
    def follow(tokens: tuple[int, ...]) -> History:
        made: dict[str, History] = {
            "ngram": NoRepeatNgram(2),
            "bias": SequenceBias([((1, 2), 1.0), ((0, 1, 3), 2.0)]),
            "dry": DontRepeatYourself(1.0, 2.0, 1, frozenset()),
        }
        for token in tokens:
            made[kind].add(token)
        return made[kind]

    def changes(history: History) -> list[tuple[int, float]]:
        return sorted(history.changes())

    history = follow(tokens)
    fork = history.fork()
    for token in drafted:
        fork.add(token)
    second = fork.fork()
    for token in more:
        second.add(token)
    assert changes(second) == changes(follow((*tokens, *drafted, *more)))
    assert changes(fork) == changes(follow((*tokens, *drafted)))
    assert changes(history) == changes(follow(tokens))
    for token in more:
        history.add(token)
    assert changes(history) == changes(follow((*tokens, *more)))
