"""Rows for the tests of sampling: random ones with any controls, and one with each control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from gptj_demo.engine.sampling import Controlled, SamplerBatch
from tests.engine.sampling.reference import Row

CPU = torch.device("cpu")


def batch_of(rows: list[Row], vocabulary: int) -> SamplerBatch:
    return SamplerBatch([row.sampler() for row in rows], vocabulary, CPU)


def control(rows: list[Row], logits: torch.Tensor) -> Controlled:
    return batch_of(rows, logits.shape[1]).controlled(logits)


def random_logits(rows: int, vocabulary: int, seed: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, vocabulary, generator=generator) * spread


# ---- random rows


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


SETTINGS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "repetition_penalty": st.builds(
        lambda value, reach: {"repetition_penalty": value, "repetition_penalty_range": reach},
        numbers(0.5, 2.0),
        st.sampled_from([0, 1, 3, 64]),
    ),
    "no_repeat_ngram_size": st.builds(
        lambda value: {"no_repeat_ngram_size": value}, st.integers(1, 4)
    ),
    "allowed_token_ids": st.builds(
        lambda ids: {"allowed_token_ids": ids},
        st.sets(st.integers(0, 2), min_size=1).map(tuple),
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
    "tfs": st.builds(lambda value: {"tfs": value}, numbers(0.0, 0.9990234375)),
    "top_a": st.builds(lambda value: {"top_a": value}, numbers(0.0009765625, 1.0)),
    "mirostat": st.builds(
        lambda tau: {"mirostat": "2", "mirostat_tau": tau}, numbers(0.0078125, 8.0)
    ),
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
    if "must_match" in names:
        matching = draw(st.sets(st.integers(0, vocabulary - 1), min_size=1, max_size=6))
        row = replace(row, matching=tuple(sorted(matching)), vocabulary=vocabulary)
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


# ---- one row with each control

OFF = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "tfs": 1.0,
    "top_a": 0.0,
    "mirostat": "off",
    "xtc_probability": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "dry_multiplier": 0.0,
    "min_new_tokens": 0,
    "allowed_token_ids": (),
    "temperature": 1.0,
}
ON_VOCABULARY = 50
ON: dict[str, Row] = {
    "logit_bias": Row(logit_bias=(((1,), 1.0),)),
    "repetition_penalty": Row({"repetition_penalty": 1.1}),
    "no_repeat_ngram_size": Row({"no_repeat_ngram_size": 1}),
    "bad_words": Row(bad_words=((1,),)),
    "allowed_token_ids": Row({"allowed_token_ids": (1, 2)}),
    "min_new_tokens": Row({"min_new_tokens": 1}),
    "must_match": Row(matching=(1, 2, 7), vocabulary=ON_VOCABULARY),
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
    "tfs": Row({"tfs": 0.9}),
    "top_a": Row({"top_a": 0.5}),
    "mirostat": Row({"mirostat": "2", "mirostat_tau": 1.0}),
    "xtc_probability": Row({"xtc_probability": 0.5}),
}
