"""Logits to tokens and their probabilities, row by row, all rows at once.

The controls apply in the order of `FILTER_ORDER`. A row's result depends on its own logits,
controls and noise alone, and the noise on the request's seed, the position and the token id alone
(see `sampling.noise`), so the same request gives the same words in any company: what is summed over
a row is left to softmax, which takes the rows one by one, unlike a sum. Every stage works
on all rows that use its control together, and a control that no row uses has no stage.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from gptj_demo.engine.history import DontRepeatYourself, History, NoRepeatNgram, SequenceBias
from gptj_demo.engine.logprobs import Rows, Trace
from gptj_demo.engine.sampling import noise
from gptj_demo.engine.transfer import upload
from gptj_demo.protocol import Submit, TokenLogprobs
from gptj_demo.sampling import FILTER_ORDER

logger = logging.getLogger(__name__)

# top-k and top-p look at this many of the most probable tokens first; sorting the whole
# vocabulary, which gives the same result, is only needed where these do not hold top_p
_CANDIDATES = 256

# a temperature that fp32 cannot divide by gives what a little larger one gives: the most probable
_LOWEST_TEMPERATURE = 1e-30

Read = Callable[[torch.Tensor], list[int]]  # int64 [rows] -> the same on the host
Stage = Callable[[torch.Tensor, Sequence[int]], None]  # logits, changed in place; tokens so far
# from scaled logits [rows, vocabulary] and limits [rows, 1]: which tokens go
Filter = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Sampled(NamedTuple):
    """What sampling made of one row. `token_id` is None where its logits were not numbers."""

    token_id: int | None
    logprobs: TokenLogprobs | None
    filtered_away: bool


class Controlled(NamedTuple):
    """What the controls made of the logits, [rows, vocabulary]: -inf where one removed the token.

    `adjusted` is after those before the temperature, of which greedy rows take the most probable;
    `scaled`, after all of them, is what the other rows draw from, None where there are none.
    `emptied` says in which rows no token was left, None where there are none.
    """

    adjusted: torch.Tensor
    scaled: torch.Tensor | None
    emptied: list[bool] | None


class RowSampler:
    """What sampling knows of one completion: controls, random numbers, the tokens it has seen.

    `vocabulary` is the number of ids that can be chosen; `eos_token_ids` end a text.
    The first token is one of `first_token_ids` where these are given (token healing). The seed of
    completion `index` is the request's plus `index`, modulo 2**32.
    """

    def __init__(
        self,
        request: Submit,
        index: int,
        vocabulary: int,
        eos_token_ids: Sequence[int],
        first_token_ids: Sequence[int] = (),
    ) -> None:
        params = request.params
        self.params = params
        self.greedy = params.temperature == 0
        self.broken = False  # whether its logits were not numbers
        self.seed = (request.seed + index) % 2**32
        self.prompt_length = len(request.prompt_token_ids)
        self.noise_key = noise.request_key(self.seed, noise.DRAW)
        self.xtc_key = noise.request_key(self.seed, noise.XTC)
        ends = [*params.stop_token_ids, *eos_token_ids]
        self.ends = ends if params.min_new_tokens > 0 else []
        self.first_token_ids = list(first_token_ids)
        self.wants_logprobs = params.logprobs is not None or params.candidates > params.n

        def one(sequences: Sequence[tuple[tuple[int, ...], float]]) -> list[tuple[int, float]]:
            return [(ids[0], bias) for ids, bias in sequences if len(ids) == 1]

        def several(
            sequences: Sequence[tuple[tuple[int, ...], float]],
        ) -> list[tuple[tuple[int, ...], float]]:
            return [(ids, bias) for ids, bias in sequences if len(ids) > 1]

        bad_words = [(token_ids, -math.inf) for token_ids in request.bad_words]
        self.biases = {"logit_bias": one(request.logit_bias), "bad_words": one(bad_words)}
        self.histories: dict[str, History] = {}
        if long := several(request.logit_bias):
            self.histories["logit_bias"] = SequenceBias(long)
        if long := several(bad_words):
            self.histories["bad_words"] = SequenceBias(long)
        if params.no_repeat_ngram_size > 0:
            self.histories["no_repeat_ngram_size"] = NoRepeatNgram(params.no_repeat_ngram_size)
        if params.dry_multiplier > 0:
            self.histories["dry_multiplier"] = DontRepeatYourself(
                params.dry_multiplier,
                params.dry_base,
                params.dry_allowed_length,
                request.dry_sequence_breakers,
            )
        for history in self.histories.values():
            for token_id in request.prompt_token_ids:
                history.add(token_id)

        # the tokens of prompt and continuation: bool [vocabulary]
        self.seen: torch.Tensor | None = None
        if params.repetition_penalty != 1:
            self.seen = torch.zeros(vocabulary, dtype=torch.bool)
            self.seen[list(request.prompt_token_ids)] = True
        # how often each token stands in the continuation: fp32 [vocabulary]
        self.counts: torch.Tensor | None = None
        if params.presence_penalty != 0 or params.frequency_penalty != 0:
            self.counts = torch.zeros(vocabulary)

    def uses(self, filter: str, off: float) -> bool:
        """Whether a filter of that name does anything to this row."""
        return not self.greedy and getattr(self.params, filter) != off

    def add(self, token_id: int) -> None:
        """Take note of the token that was chosen, for the controls that look at sequences."""
        for history in self.histories.values():
            history.add(token_id)

    def xtc_uniform(self, step: int) -> float:
        """The random number that decides whether XTC acts on this step, in (0, 1)."""
        key = noise.output(self.xtc_key, self.prompt_length + step)
        return noise.uniform(noise.output(key, 0))


class SamplerBatch:
    """The rows of a batch with their controls as tensors; made anew when the rows change."""

    def __init__(
        self,
        rows: Sequence[RowSampler],
        vocabulary: int,
        device: torch.device,
        unused: torch.Tensor | None = None,
    ) -> None:
        """`unused` holds the ids below `vocabulary` that must not be chosen, int64."""
        self._unused = unused
        self.rows = list(rows)
        self.vocabulary = vocabulary
        self.device = device
        params = [row.params for row in self.rows]
        greedy = [row.greedy for row in self.rows]
        self._all_greedy, self._any_greedy = all(greedy), any(greedy)
        self._greedy = torch.tensor(greedy, device=device)

        # filters do nothing to greedy rows, whose result is the argmax
        drawing = [None if row.greedy else row.params for row in self.rows]
        temperatures = [max(p.temperature, _LOWEST_TEMPERATURE) if p else 1.0 for p in drawing]
        top_k = [p.top_k or vocabulary if p else vocabulary for p in drawing]
        top_p = [p.top_p if p else 1.0 for p in drawing]
        min_p = [p.min_p if p else 0.0 for p in drawing]
        self._temperature = self._column(temperatures)
        self._any_temperature = any(value != 1 for value in temperatures)
        self._top_k = self._column(top_k)
        self._compiled = _compiled() if device.type == "cpu" else None
        self._noise_keys = np.array([row.noise_key for row in self.rows], dtype=np.uint64)
        if self._compiled is None:
            self._increments = noise.increments(vocabulary, device)
        # temperature (0: the most probable), top-k, top-p and min-p as the compiled code takes them
        self._limits = (
            np.array(
                [p.temperature and t for p, t in zip(params, temperatures, strict=True)], "f4"
            ),
            np.array(top_k, "i8"),
            np.array(top_p, "f4"),
            np.array([math.log(p) if p else -math.inf for p in min_p], "f4"),
        )
        self._no_limits = tuple(
            np.full(len(params), value, limit.dtype)
            for value, limit in zip((1, vocabulary, 1, -math.inf), self._limits, strict=True)
        )
        self._largest_top_k = max((k for k in top_k if k < vocabulary), default=0)
        self._any_top_k = self._largest_top_k > 0
        self._top_p, self._any_top_p = self._column(top_p), min(top_p) < 1
        self._log_min_p = self._column([math.log(p) if p else -math.inf for p in min_p])
        self._any_min_p = max(min_p) > 0

        self._seen = self._stack("seen")
        self._counts = self._stack("counts")
        self._histories = [(n, row) for n, row in enumerate(self.rows) if row.histories]
        makers: dict[str, Callable[[], Stage | None]] = {
            "repetition_penalty": self._repetition_penalty,
            "min_new_tokens": self._min_new_tokens,
            "token_healing": self._token_healing,
            "presence_penalty": lambda: self._penalty_by_count("presence_penalty"),
            "frequency_penalty": lambda: self._penalty_by_count("frequency_penalty"),
            "typical_p": lambda: self._filter(_typical, "typical_p", off=1.0),
            "epsilon_cutoff": lambda: self._filter(_epsilon, "epsilon_cutoff", off=0.0),
            "eta_cutoff": lambda: self._filter(_eta, "eta_cutoff", off=0.0),
            "xtc_probability": self._xtc,
        }
        stages = [
            (name, makers.get(name, lambda name=name: self._changes(name))())
            for name in FILTER_ORDER
            if name not in ("temperature", "top_k", "top_p", "min_p")  # all done in `_scale`
        ]
        warpers = FILTER_ORDER.index("temperature")
        before = FILTER_ORDER[:warpers]
        self._processors = [(name, stage) for name, stage in stages if stage and name in before]
        self._filters = [(name, stage) for name, stage in stages if stage and name not in before]
        self._may_empty = any(
            name in ("no_repeat_ngram_size", "bad_words", "min_new_tokens", "token_healing")
            for name, _ in self._processors
        )
        self._wanting = [number for number, row in enumerate(self.rows) if row.wants_logprobs]
        self._alternatives = max((p.logprobs or 0 for p in params), default=0)

    @property
    def wants_logprobs(self) -> bool:
        """Whether any row is told how probable its tokens were."""
        return bool(self._wanting)

    def sample(
        self, logits: torch.Tensor, steps: Sequence[int], read: Read = torch.Tensor.tolist
    ) -> list[Sampled]:
        """One token for each row.

        `logits` is fp32 [rows, padded_vocabulary]; ids past the vocabulary are never chosen.
        `steps[row]` says how many tokens the row has generated so far. `read` brings the tokens to
        the host, -1 where a row's logits were not numbers, and may use them on the device before.
        """
        padded, logits = logits, logits[:, : self.vocabulary]
        if self._unused is not None:
            logits = logits.index_fill(1, self._unused, -torch.inf)
        broken = ~logits.amax(dim=1).isfinite()  # amax gives a not-a-number where there is one
        trace = None
        if self._wanting:
            rows = _rows(self._wanting, len(self.rows), self.device)
            trace = Trace(padded, self.vocabulary, rows, self._alternatives, self._unused)

        if self._compiled is not None and trace is None and not self._filters:
            adjusted, emptied = self._adjust(logits, steps, None)
            untouched = adjusted is logits and self._unused is None
            entering = padded if untouched else adjusted
            tokens = self._draw_compiled(entering, self._limits, steps)
        else:
            adjusted, scaled, emptied = self.controlled(logits, steps, trace)
            tokens = self._choose(adjusted, scaled, steps)
        chosen = read(torch.where(broken, -1, tokens))
        for number, row in self._histories:
            row.add(chosen[number])
        self._remember(tokens)
        if trace is None and emptied is None:
            return [Sampled(token if token >= 0 else None, None, False) for token in chosen]
        logprobs: dict[int, TokenLogprobs] = {}
        if trace is not None:
            wanted = [self.rows[number].params.logprobs or 0 for number in self._wanting]
            told = trace.logprobs(tokens, scaled, self._greedy, wanted)
            logprobs = dict(zip(self._wanting, told, strict=True))
        return [
            Sampled(None, None, False)
            if token < 0
            else Sampled(token, logprobs.get(row), emptied is not None and emptied[row])
            for row, token in enumerate(chosen)
        ]

    # ---- logits to what is left of them

    def controlled(
        self, logits: torch.Tensor, steps: Sequence[int], trace: Trace | None = None
    ) -> Controlled:
        """The controls at work on `logits`, fp32 [rows, vocabulary], which stay as they are."""
        adjusted, emptied = self._adjust(logits, steps, trace)
        scaled = None if self._all_greedy else self._scale(adjusted, steps, trace)
        return Controlled(adjusted, scaled, emptied)

    def _adjust(
        self, logits: torch.Tensor, steps: Sequence[int], trace: Trace | None
    ) -> tuple[torch.Tensor, list[bool] | None]:
        """The controls before the temperature; and which rows they emptied, where they may."""
        adjusted = logits
        if self._processors:
            adjusted = logits.clone()
            for name, stage in self._processors:
                stage(adjusted, steps)
                if trace is not None:
                    trace.note(name, adjusted)
        emptied = None
        if self._may_empty:
            empty = adjusted.amax(dim=1) == -torch.inf
            if bool(empty.any()):  # the model's most probable token stays
                emptied = empty.tolist()
                likeliest = self._likeliest(logits, steps)
                alone = torch.full_like(logits, -torch.inf).scatter_(1, likeliest, 0.0)
                adjusted = torch.where(empty[:, None], alone, adjusted)
        return adjusted, emptied

    def _likeliest(self, logits: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """The model's most probable tokens, [rows, 1], of those that token healing allows."""
        heal = dict(self._processors).get("token_healing")
        if heal is not None:
            logits = logits.clone()
            heal(logits, steps)
        return logits.argmax(dim=1, keepdim=True)

    def _scale(
        self, logits: torch.Tensor, steps: Sequence[int], trace: Trace | None
    ) -> torch.Tensor:
        """Temperature and filters: -inf where a filter removed the token. `logits` stays."""
        scaled = logits / self._temperature if self._any_temperature else logits
        thresholds = self._thresholds(scaled)
        if thresholds:
            if trace is not None:
                for name, threshold in thresholds.items():
                    trace.note_below(name, scaled, threshold)
            highest = list(thresholds.values())
            threshold = highest[0] if len(highest) == 1 else torch.cat(highest, 1).amax(1, True)
            scaled = scaled.masked_fill(scaled < threshold, -torch.inf)
        elif self._filters and scaled is logits:
            scaled = logits.clone()
        for name, stage in self._filters:
            stage(scaled, steps)
            if trace is not None:
                trace.note(name, scaled)
        return scaled

    def _thresholds(self, scaled: torch.Tensor) -> dict[str, torch.Tensor]:
        """top-k, top-p and min-p keep what is at least their threshold, [rows, 1], in this order.

        -inf where a row keeps all; only those that a row uses.
        """
        thresholds: dict[str, torch.Tensor] = {}
        if self._compiled is not None:
            if not (self._any_top_k or self._any_top_p or self._any_min_p):
                return thresholds
            limits = torch.empty(3, len(self.rows))
            self._compiled.thresholds(
                scaled.contiguous().numpy(), *self._limits[1:], limits.numpy()
            )
            used = {
                "top_k": self._any_top_k,
                "top_p": self._any_top_p,
                "min_p": self._any_min_p,
            }
            return {
                name: limit[:, None]
                for (name, is_used), limit in zip(used.items(), limits, strict=True)
                if is_used
            }
        peak = None
        if self._any_top_k or self._any_top_p:
            candidates = min(max(_CANDIDATES, self._largest_top_k), self.vocabulary)
            values = _largest(scaled, candidates)
            peak = values[:, :1]
            if self._any_top_k:
                last = (self._top_k.long() - 1).clamp(max=values.shape[1] - 1)
                top_k = values.gather(1, last)
                thresholds["top_k"] = top_k.masked_fill(self._top_k >= self.vocabulary, -torch.inf)
            if self._any_top_p:
                thresholds["top_p"] = self._nucleus(values, scaled)
        if self._any_min_p:
            peak = scaled.amax(dim=1, keepdim=True) if peak is None else peak
            thresholds["min_p"] = peak + self._log_min_p
        return thresholds

    def _nucleus(self, values: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
        """The threshold of top-p, [rows, 1], from the largest `values` [rows, candidates]."""
        unlimited = self._top_k >= self.vocabulary
        in_top_k = torch.arange(values.shape[1], device=self.device) < self._top_k
        peak = values[:, :1]
        weights = (values - peak).exp() * in_top_k
        # the mass is that of what top-k left, as the filters work one after the other
        all_mass = scaled.softmax(dim=1).amax(dim=1, keepdim=True).reciprocal()
        # cumsum: unlike sum it does not depend on how many candidates were looked at
        mass = torch.where(unlimited, all_mass, weights.cumsum(dim=1)[:, -1:])
        kept = _count_nucleus(weights, self._top_p * mass)  # at most those in top-k
        thresholds = values.gather(1, kept - 1)
        uses = self._top_p < 1
        short = (unlimited & uses & (kept == values.shape[1]))[:, 0]
        if values.shape[1] < self.vocabulary and bool(short.any()):
            # the nucleus of these rows may be larger than what was looked at
            values = _largest(scaled[short], self.vocabulary)
            kept = _count_nucleus((values - peak[short]).exp(), (self._top_p * mass)[short])
            thresholds[short] = values.gather(1, kept - 1)
        return thresholds.masked_fill(~uses, -torch.inf)

    def _choose(
        self, adjusted: torch.Tensor, scaled: torch.Tensor | None, steps: Sequence[int]
    ) -> torch.Tensor:
        """A token for each row, int64 [rows]: drawn, or the most probable one."""
        if scaled is None:
            return adjusted.argmax(dim=1)
        tokens = self._draw(scaled, steps)
        if self._any_greedy:
            tokens = torch.where(self._greedy, adjusted.argmax(dim=1), tokens)
        return tokens

    def _draw_compiled(
        self, logits: torch.Tensor, limits: Sequence[np.ndarray], steps: Sequence[int]
    ) -> torch.Tensor:
        """Temperature, top-k, top-p and min-p as `limits` has them, and the draw.

        `logits` is fp32 [rows, vocabulary or more]. A row is drawn in the same way with limits and
        without, when other rows have filters for which they were applied before.
        """
        assert self._compiled is not None
        tokens = torch.empty(len(self.rows), dtype=torch.int64)
        self._compiled.draw(
            logits.contiguous().numpy(),
            *limits,
            self._position_keys(steps),
            self.vocabulary,
            tokens.numpy(),
        )
        return tokens

    def _draw(self, scaled: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """Gumbel-max over what the filters leave: see `sampling.noise`."""
        if self._compiled is not None:
            return self._draw_compiled(scaled, self._no_limits, steps)
        keys = upload(self._position_keys(steps).view(np.int64).tolist(), torch.int64, self.device)
        return noise.draw(scaled.softmax(dim=1), keys[:, None], self._increments)

    def _position_keys(self, steps: Sequence[int]) -> np.ndarray:
        """uint64 [rows]: by the position that the drawn token gets in its sequence."""
        positions = [row.prompt_length + step for row, step in zip(self.rows, steps, strict=True)]
        return noise.position_keys(self._noise_keys, positions)

    # ---- stages: what each control does, to the rows that use it; None where none does

    def _changes(self, name: str) -> Stage | None:
        """What is added to single logits: always the same, or depending on the tokens so far."""
        fixed = [
            (number, token, value)
            for number, row in enumerate(self.rows)
            for token, value in row.biases.get(name, ())
        ]
        moving = [
            (number, row.histories[name])
            for number, row in enumerate(self.rows)
            if name in row.histories
        ]
        if not fixed and not moving:
            return None
        always = self._sparse(fixed) if fixed else None

        def stage(logits: torch.Tensor, steps: Sequence[int]) -> None:
            if always is not None:
                logits.index_put_(always[0], always[1], accumulate=True)
            changes = [
                (number, token, value)
                for number, history in moving
                for token, value in history.changes()
            ]
            if changes:
                places, values = self._sparse(changes)
                logits.index_put_(places, values, accumulate=True)

        return stage

    def _repetition_penalty(self) -> Stage | None:
        """Keskar et al. 2019, as transformers' RepetitionPenaltyLogitsProcessor."""
        if self._seen is None:
            return None
        numbers, seen = self._seen
        rows = _rows(numbers, len(self.rows), self.device)
        penalty = self._column([self.rows[n].params.repetition_penalty for n in numbers])

        def stage(logits: torch.Tensor, steps: Sequence[int]) -> None:
            part = logits[rows]
            penalized = torch.where(part < 0, part * penalty, part / penalty)
            logits[rows] = torch.where(seen, penalized, part)

        return stage

    def _penalty_by_count(self, name: str) -> Stage | None:
        """OpenAI's penalties, over the tokens of the continuation."""
        if self._counts is None or not any(getattr(row.params, name) for row in self.rows):
            return None
        numbers, counts = self._counts
        rows = _rows(numbers, len(self.rows), self.device)
        penalty = self._column([getattr(self.rows[n].params, name) for n in numbers])

        def stage(logits: torch.Tensor, steps: Sequence[int]) -> None:
            times = counts if name == "frequency_penalty" else (counts > 0).float()
            logits[rows] -= times * penalty

        return stage

    def _min_new_tokens(self) -> Stage | None:
        """No end before `min_new_tokens`, as transformers' MinNewTokensLengthLogitsProcessor."""
        ends = [(number, token) for number, row in enumerate(self.rows) for token in row.ends]
        if not ends:
            return None
        numbers = [number for number, _ in ends]
        places = torch.tensor(ends, device=self.device).unbind(1)
        minimum = torch.tensor([self.rows[n].params.min_new_tokens for n in numbers])

        def stage(logits: torch.Tensor, steps: Sequence[int]) -> None:
            early = torch.tensor([steps[number] for number in numbers]) < minimum
            forbidden = torch.zeros(len(ends)).masked_fill_(early, -torch.inf)
            logits.index_put_(places, forbidden.to(self.device), accumulate=True)

        return stage

    def _token_healing(self) -> Stage | None:
        """The first token is one of those that begin with the characters taken back."""
        healing = [number for number, row in enumerate(self.rows) if row.first_token_ids]
        if not healing:
            return None

        def stage(logits: torch.Tensor, steps: Sequence[int]) -> None:
            for number in healing:
                if steps[number] == 0:
                    allowed = torch.tensor(self.rows[number].first_token_ids, device=self.device)
                    kept = logits[number, allowed]
                    logits[number].fill_(-torch.inf)
                    logits[number, allowed] = kept

        return stage

    def _filter(self, filter: Filter, name: str, off: float) -> Stage | None:
        numbers = [n for n, row in enumerate(self.rows) if row.uses(name, off)]
        if not numbers:
            return None
        rows = _rows(numbers, len(self.rows), self.device)
        limit = self._column([getattr(self.rows[n].params, name) for n in numbers])

        def stage(scaled: torch.Tensor, steps: Sequence[int]) -> None:
            _remove(scaled, rows, filter(scaled[rows], limit))

        return stage

    def _xtc(self) -> Stage | None:
        """Exclude top choices: see `SamplingParams.xtc_probability`."""
        numbers = [n for n, row in enumerate(self.rows) if row.uses("xtc_probability", 0.0)]
        if not numbers:
            return None
        rows = _rows(numbers, len(self.rows), self.device)
        threshold = self._column([self.rows[n].params.xtc_threshold for n in numbers])

        def stage(scaled: torch.Tensor, steps: Sequence[int]) -> None:
            acts = self._column(
                [
                    float(self.rows[n].xtc_uniform(steps[n]) < self.rows[n].params.xtc_probability)
                    for n in numbers
                ]
            )
            part = scaled[rows]
            obvious = (part.softmax(dim=1) >= threshold) & (part > -torch.inf)
            least = part.masked_fill(~obvious, torch.inf).amin(dim=1, keepdim=True)
            _remove(scaled, rows, obvious & (part > least) & (acts > 0))

        return stage

    # ---- helpers

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        return upload(values, torch.float32, self.device)[:, None]

    def _sparse(
        self, changes: list[tuple[int, int, float]]
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """(row, token, value)s as places and values for `index_put_`."""
        places = torch.tensor([change[:2] for change in changes], device=self.device).unbind(1)
        values = torch.tensor([change[2] for change in changes], device=self.device)
        return places, values.float()

    def _stack(self, name: str) -> tuple[list[int], torch.Tensor] | None:
        """The rows that have a tensor of this name, and these in one, of which theirs are views.

        So what the batch writes is still there when the row joins another one.
        """
        numbers = [n for n, row in enumerate(self.rows) if getattr(row, name) is not None]
        if not numbers:
            return None
        stacked = torch.stack([getattr(self.rows[n], name).to(self.device) for n in numbers])
        for number, view in zip(numbers, stacked, strict=True):
            setattr(self.rows[number], name, view)
        return numbers, stacked

    def _remember(self, tokens: torch.Tensor) -> None:
        """Note the chosen tokens for the penalties."""
        if self._seen is not None:
            numbers, seen = self._seen
            seen.scatter_(1, tokens[numbers][:, None], True)
        if self._counts is not None:
            numbers, counts = self._counts
            chosen = tokens[numbers][:, None]
            counts.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=counts.dtype))


@functools.cache
def _compiled() -> ModuleType | None:
    """`compiled_sampling`, where there is numba."""
    try:
        from gptj_demo.engine import compiled_sampling
    except (ImportError, RuntimeError) as error:
        logger.warning("sampling will be slower than it could be: %s", error)
        return None
    return compiled_sampling


def _largest(scaled: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` largest values of each row, the largest first."""
    if scaled.device.type != "cpu":
        return scaled.topk(count, dim=1).values
    # numpy's vectorised partition and sort take half the time of torch's topk, or less
    values, rest = scaled.numpy(), scaled.shape[1] - count
    largest = np.partition(values, rest, axis=1)[:, rest:] if rest else values
    return torch.from_numpy(np.sort(largest, axis=1)[:, ::-1].copy())


def _count_nucleus(weights: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """How many of the first weights reach `mass` together: one at least, [rows, 1]."""
    within = (weights.cumsum(dim=1) - weights < mass) & (weights > 0)
    return within.sum(dim=1, keepdim=True).clamp(min=1)


# ---- filters


def _entropy(probabilities: torch.Tensor, log_probabilities: torch.Tensor) -> torch.Tensor:
    """Natural units, [rows, 1]; removed tokens count nothing."""
    terms = probabilities * log_probabilities
    # how a sum is cut for several threads depends on the rows; in fp64 that is lost in rounding
    return -terms.nansum(dim=1, keepdim=True, dtype=torch.float64).float()


def _typical(scaled: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Meister et al. 2022, as transformers' TypicalLogitsWarper."""
    probabilities, log_probabilities = scaled.softmax(dim=1), scaled.log_softmax(dim=1)
    distance = (-log_probabilities - _entropy(probabilities, log_probabilities)).abs()
    # sorted are only those that other filters left, moved to the front of their rows; what is not
    # a number counts as left, so that no row is empty
    left = scaled != -torch.inf
    counts = left.sum(dim=1, keepdim=True)
    front = torch.arange(int(counts.max()), device=scaled.device) < counts  # [rows, most left]
    near = torch.full(front.shape, torch.inf, device=scaled.device)
    near[front] = distance[left]
    mass_near = torch.zeros(front.shape, device=scaled.device)
    mass_near[front] = probabilities[left]
    nearest, order = near.sort(dim=1, stable=True)
    cumulative = mass_near.gather(1, order).cumsum(dim=1)
    last = (cumulative < mass).sum(dim=1, keepdim=True)
    return distance > nearest.gather(1, torch.minimum(last, counts - 1))


def _epsilon(scaled: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """Hewitt et al. 2022, as transformers' EpsilonLogitsWarper."""
    return (scaled.softmax(dim=1) < epsilon) & (scaled < scaled.amax(dim=1, keepdim=True))


def _eta(scaled: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """Hewitt et al. 2022, as transformers' EtaLogitsWarper."""
    log_probabilities = scaled.log_softmax(dim=1)
    probabilities = scaled.softmax(dim=1)
    entropy = _entropy(probabilities, log_probabilities)
    eta = torch.minimum(epsilon, epsilon.sqrt() * (-entropy).exp())
    return (probabilities < eta) & (scaled < scaled.amax(dim=1, keepdim=True))


def _remove(scaled: torch.Tensor, rows: Rows, removed: torch.Tensor) -> None:
    """Take tokens away in some rows, in place."""
    if isinstance(rows, slice):
        scaled.masked_fill_(removed, -torch.inf)
    else:
        scaled[rows] = scaled[rows].masked_fill_(removed, -torch.inf)


def _rows(numbers: Sequence[int], count: int, device: torch.device) -> Rows:
    """An index for some rows of a batch: a slice, which copies nothing, where it is all of them."""
    if len(numbers) == count:
        return slice(None)
    return torch.tensor(numbers, device=device)
