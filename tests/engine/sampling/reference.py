"""The controls as others define them: transformers' processors, and what their authors published.

`follow` takes the logits of one row through them one after the other, slowly and plainly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from gptj_demo.engine.sampling import RowSampler
from gptj_demo.protocol import Submit
from gptj_demo.sampling import PROCESSORS, SamplingParams

Ids = tuple[int, ...]

PLAIN: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 64}
"""Settings with which no control does anything."""


class FixedGuide:
    """A guide that allows the same tokens in every step, whatever was chosen."""

    ended = None

    def __init__(self, allowed: Ids, vocabulary: int) -> None:
        self.guides = self
        self.added = np.full(vocabulary, -np.inf, dtype=np.float32)
        self.added[list(allowed)] = 0

    def wait(self) -> None:
        pass

    def advance(self, chosen: Any) -> None:
        pass


@dataclass(frozen=True)
class Row:
    """One row of a batch: its controls, and the tokens so far."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # what differs from `PLAIN`
    prompt: Ids = (0,)
    generated: Ids = ()
    seed: int = 0
    logit_bias: tuple[tuple[Ids, float], ...] = ()
    bad_words: tuple[Ids, ...] = ()
    dry_sequence_breakers: frozenset[int] = frozenset()
    first_token_ids: Ids = ()
    matching: Ids = ()
    vocabulary: int = 0  # only with `matching`
    eos_token_ids: tuple[int, ...] = (0,)

    @cached_property
    def params(self) -> SamplingParams:
        return SamplingParams(**{**PLAIN, **self.settings})

    @property
    def step(self) -> int:
        return len(self.generated)

    def sampler(self, seed: int | None = None) -> RowSampler:
        """The engine's sampler of this row, with its tokens so far; `seed` replaces the row's."""
        request = Submit(
            0,
            self.prompt,
            self.params,
            self.seed if seed is None else seed,
            self.logit_bias,
            self.bad_words,
            self.dry_sequence_breakers,
        )
        row = RowSampler(request, 0, self.eos_token_ids, self.first_token_ids)
        for token_id in self.generated:
            row.add(token_id)
        if self.matching:
            row.guide = FixedGuide(self.matching, self.vocabulary)  # type: ignore[assignment]
        return row


@dataclass(frozen=True)
class Followed:
    """`scores` [vocabulary] after all controls, `adjusted` after those before the temperature.

    `removed_by` names the control that removed each token; `emptied` says that none was left.
    """

    scores: torch.Tensor
    adjusted: torch.Tensor
    removed_by: dict[int, str]
    emptied: bool


def follow(row: Row, logits: torch.Tensor) -> Followed:
    """Take the logits of a row, [vocabulary], through its controls in their order."""
    ids = torch.tensor([row.prompt + row.generated])
    removed_by: dict[int, str] = {}

    def through(names: tuple[str, ...], scores: torch.Tensor) -> torch.Tensor:
        for name in names:
            before, scores = scores, STAGES[name](row, ids, scores)
            gone = (scores == -math.inf) & (before > -math.inf)
            removed_by.update(dict.fromkeys(gone.nonzero()[:, 0].tolist(), name))
        return scores

    adjusted = through(PROCESSORS, logits)
    emptied = bool((adjusted == -math.inf).all())
    if emptied:
        adjusted = torch.full_like(logits, -math.inf)
        everything = set(range(len(logits)))
        healing = set(row.first_token_ids) if row.step == 0 else set()
        binding = (healing or everything) & (set(row.params.allowed_token_ids) or everything)
        binding &= set(row.matching) or everything
        allowed = torch.tensor(sorted(binding or everything))
        adjusted[allowed[logits[allowed].argmax()]] = 0.0
    if row.params.temperature == 0:
        return Followed(adjusted, adjusted, removed_by, emptied)
    scores = through(row.params.sampler_order, adjusted)
    return Followed(scores, adjusted, removed_by, emptied)


LOOSER_ABOVE = ("top_p", "typical_p", "tfs")
"""Filters that remove less with a larger limit, and nothing at 1."""


def nudged(row: Row, by: float) -> Row:
    """The row with the limits of its filters a little looser (`by` above 0) or tighter."""
    moved = {}
    for name in (*LOOSER_ABOVE, "min_p", "epsilon_cutoff", "eta_cutoff", "top_a", "xtc_threshold"):
        value = getattr(row.params, name)
        if name in LOOSER_ABOVE:
            moved[name] = min(1.0, max(0.0, value + by)) if value < 1 else value
        else:
            moved[name] = value * (1 - by)
    moved["mirostat_tau"] = row.params.mirostat_tau * (1 + by)
    return replace(row, settings={**row.settings, **moved})


# ---- one function a control: (row, token ids so far [1, length], scores [vocabulary]) -> scores

Stage = Callable[[Row, torch.Tensor, torch.Tensor], torch.Tensor]


def _theirs(make: Callable[[Row], Any]) -> Stage:
    """A processor of transformers; `make` gives None where the row does not use it."""

    def stage(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        processor = make(row)
        return scores if processor is None else processor(ids, scores[None].clone())[0]

    return stage


def _allowed_token_ids(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """vLLM's: all but these become -inf."""
    allowed = list(row.params.allowed_token_ids)
    if not allowed:
        return scores
    return torch.full_like(scores, -math.inf).index_copy(0, torch.tensor(allowed), scores[allowed])


def _min_new_tokens(row: Row) -> Any:
    if not row.params.min_new_tokens:
        return None
    ends = [*row.eos_token_ids, *row.params.stop_token_ids]
    return MinNewTokensLengthLogitsProcessor(len(row.prompt), row.params.min_new_tokens, ends)


def _token_healing(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """The first token is constrained, the others are not.

    If other controls removed all allowed tokens, transformers restores them; here the row is
    then empty.
    """
    return scores if row.step else _only(list(row.first_token_ids), ids, scores)


def _must_match(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Keep the tokens that a guide allows; if none is left, the row is empty, as above."""
    return _only(list(row.matching), ids, scores)


def _only(allowed: list[int], ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    if not allowed:
        return scores
    if (scores[allowed] == -math.inf).all():
        return torch.full_like(scores, -math.inf)
    return PrefixConstrainedLogitsProcessor(lambda batch, sent: allowed, 1)(ids, scores[None])[0]


def _repetition_penalty(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """transformers' processor on the last tokens only, as in text-generation-webui."""
    if row.params.repetition_penalty == 1:
        return scores
    counting = ids[:, -row.params.repetition_penalty_range :]  # a range of 0 counts all tokens
    processor = RepetitionPenaltyLogitsProcessor(row.params.repetition_penalty)
    return processor(counting, scores[None].clone())[0]  # type: ignore[no-any-return]


def _openai_penalties(name: str) -> Stage:
    """mu[j] - c[j] * frequency_penalty - float(c[j] > 0) * presence_penalty (OpenAI's API guide).

    c[j] is how often token j was sampled: the prompt does not count.
    """

    def stage(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        penalty = getattr(row.params, name)
        scores = scores.clone()
        for token in set(row.generated):
            count = row.generated.count(token)
            scores[token] -= penalty * (count if name == "frequency_penalty" else float(count > 0))
        return scores

    return stage


def dry_penalties(
    tokens: Ids, multiplier: float, base: float, allowed_length: int, breakers: frozenset[int]
) -> dict[int, float]:
    """What DRY (text-generation-webui 5677) subtracts from each token, by its definition.

    A token that would lengthen the end of the text, n tokens long, to a sequence that stands in the
    text already is penalised by multiplier * base ** (n - allowed_length), n the longest there is,
    where n is allowed_length or more. Sequences do not reach across breakers, and a breaker itself
    is never penalised. n is followed up to 50.
    """
    penalties = {}
    for token in set(tokens) - breakers:
        longest = 0
        for place in [place for place, other in enumerate(tokens) if other == token]:
            for length in range(1, min(50, place) + 1):
                sequence = tokens[place - length : place]
                if sequence != tokens[-length:] or breakers & set(sequence):
                    break
                longest = max(longest, length)
        if longest >= max(1, allowed_length):
            penalties[token] = multiplier * base ** (longest - allowed_length)
    return penalties


def _dry(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    params, scores = row.params, scores.clone()
    if params.dry_multiplier:
        penalties = dry_penalties(
            row.prompt + row.generated,
            params.dry_multiplier,
            params.dry_base,
            params.dry_allowed_length,
            row.dry_sequence_breakers,
        )
        for token, penalty in penalties.items():
            scores[token] -= penalty
    return scores


def xtc_removed(scores: torch.Tensor, threshold: float) -> list[int]:
    """What XTC (text-generation-webui 6335) removes where it acts, by its definition.

    All tokens with at least the threshold's probability, except the least probable of them.
    """
    probabilities = scores.softmax(dim=0)
    possible = (scores > -math.inf).nonzero()[:, 0].tolist()
    top = [token for token in possible if probabilities[token] >= threshold]
    return sorted(top, key=lambda token: float(scores[token]))[1:]


def xtc_acts(row: Row) -> bool:
    """Whether XTC acts at the row's step, by the request's own random numbers."""
    position = len(row.prompt) + row.step
    number = splitmix64(splitmix64(splitmix64(1, row.seed), position), 0)
    return ((number >> 12) + 0.5) / 2**52 < row.params.xtc_probability


def splitmix64(seed: int, index: int) -> int:
    """Output `index` of the generator, counted from 0 (Steele, Lea and Flood 2014)."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def _xtc(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    scores = scores.clone()
    if xtc_acts(row):
        scores[xtc_removed(scores, row.params.xtc_threshold)] = -math.inf
    return scores


def _tfs(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """llama.cpp's tail-free sampler with min_keep = 1, in its own words.

    The candidates are sorted; `last` is how many of them stay.
    """
    z = row.params.tfs
    order = [t for t in scores.argsort(descending=True).tolist() if scores[t] > -math.inf]
    if z >= 1 or len(order) <= 2:
        return scores
    p = scores.softmax(dim=0)[order].tolist()
    first = [p[i] - p[i + 1] for i in range(len(p) - 1)]
    second = [abs(first[i] - first[i + 1]) for i in range(len(first) - 1)]
    total = sum(second)
    second = [one / total if total > 1e-6 else 1 / len(second) for one in second]
    last, cumulative = len(order), 0.0
    for i, one in enumerate(second):
        cumulative += one
        if cumulative > z and i >= 1:
            last = i
            break
    scores = scores.clone()
    scores[order[last:]] = -math.inf
    return scores


def _top_a(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """text-generation-webui's TopALogitsWarper: p < p_max * p_max * top_a goes."""
    probabilities = scores.softmax(dim=0)
    limit = probabilities.max() * probabilities.max() * row.params.top_a
    return scores.masked_fill(probabilities < limit, -math.inf)


def _mirostat(row: Row, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """For the first token of a text, where mu is still twice tau."""
    if row.params.mirostat == "off":
        return scores
    return mirostat_left(scores, 2 * row.params.mirostat_tau)


def mirostat_left(scores: torch.Tensor, mu: float) -> torch.Tensor:
    """llama.cpp's mirostat v2: keep tokens with a surprise of at most mu, and the most probable."""
    surprise = -scores.double().softmax(dim=0).log2()
    return scores.masked_fill((surprise > mu) & (scores < scores.max()), -math.inf)


def _used(name: str, off: float, make: Callable[[Any], Any]) -> Stage:
    def made(row: Row) -> Any:
        value = getattr(row.params, name)
        return None if value == off else make(value)

    return _theirs(made)


STAGES: dict[str, Stage] = {
    "logit_bias": _theirs(
        lambda row: SequenceBiasLogitsProcessor(dict(row.logit_bias)) if row.logit_bias else None
    ),
    "repetition_penalty": _repetition_penalty,
    "no_repeat_ngram_size": _used("no_repeat_ngram_size", 0, NoRepeatNGramLogitsProcessor),
    "bad_words": _theirs(
        lambda row: (
            NoBadWordsLogitsProcessor([list(word) for word in row.bad_words])
            if row.bad_words
            else None
        )
    ),
    "allowed_token_ids": _allowed_token_ids,
    "min_new_tokens": _theirs(_min_new_tokens),
    "must_match": _must_match,
    "token_healing": _token_healing,
    "presence_penalty": _openai_penalties("presence_penalty"),
    "frequency_penalty": _openai_penalties("frequency_penalty"),
    "dry_multiplier": _dry,
    "temperature": _used("temperature", 1.0, TemperatureLogitsWarper),
    "top_k": _used("top_k", 0, TopKLogitsWarper),
    "top_p": _used("top_p", 1.0, TopPLogitsWarper),
    "min_p": _used("min_p", 0.0, MinPLogitsWarper),
    "typical_p": _used("typical_p", 1.0, TypicalLogitsWarper),
    "epsilon_cutoff": _used("epsilon_cutoff", 0.0, EpsilonLogitsWarper),
    "eta_cutoff": _used("eta_cutoff", 0.0, EtaLogitsWarper),
    "tfs": _tfs,
    "top_a": _top_a,
    "mirostat": _mirostat,
    "xtc_probability": _xtc,
}
