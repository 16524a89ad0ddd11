"""Runs a step: placements, one decode of all running rows, prefill chunks, sampling.

On CUDA the forward pass of the next step is queued as soon as the tokens of this one are on the
device, before the host has them, so the GPU computes while the host turns tokens into text. If a
row ends in the meantime, its logits are ignored. The KV position written for it is beyond the row's
last one, and every position is written before it is read. Sampling always waits for the host, so
controls that read the text so far stay exact.

On a processor drafted tokens are decoded beside the newest token of their row. Each is sampled only
after the tokens before it, by the same controls and the same noise as without a draft, so a draft
changes no text. The keys and values of rejected tokens are overwritten before they are read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from gptj_demo.engine.drafters import start_speculation
from gptj_demo.engine.model import Batch, Chunk, ForwardModel, Report
from gptj_demo.engine.model import Rows as DecodeRows
from gptj_demo.engine.sampling import (
    Children,
    RowSampler,
    Sampled,
    SamplerBatch,
    expand,
    score,
)
from gptj_demo.engine.sampling.trace import LogprobsReader
from gptj_demo.engine.scheduler import PrefillChunk, Sequence, SequenceKey, Step
from gptj_demo.engine.speculation import Drafted, Proposal, Speculation
from gptj_demo.engine.transfer import download, upload
from gptj_demo.protocol import TokenLogprobs
from gptj_demo.texts import Message


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of a step: scores of prompts and expansions, if requested, then tokens.

    An expansion is None if the logits were NaN.
    """

    scored: list[tuple[Sequence, list[TokenLogprobs]]]
    expanded: list[tuple[Sequence, Children | None]]
    tokens: list[tuple[Sequence, Sampled]]


class Runner:
    """A model, its KV cache, and the sampling state of each running completion."""

    def __init__(
        self,
        model: ForwardModel,
        max_num_seqs: int,
        vocabulary: int,
        unused_token_ids: Rows[int] = (),
        max_tokens: int | None = None,
    ) -> None:
        """Ids below `vocabulary` can be sampled, except `unused_token_ids`.

        The KV cache holds `max_tokens`, by default a context for each stream.
        """
        self.model = model
        self.vocabulary = vocabulary
        self._unused = (
            upload(unused_token_ids, torch.int64, model.device) if unused_token_ids else None
        )
        self.cache = model.make_cache(max_num_seqs, max_tokens)
        self._samplers: dict[SequenceKey, RowSampler] = {}
        self._batch: SamplerBatch | None = None
        # the step that is queued ahead: each row's index in its logits, and the logits
        self._ahead: tuple[dict[Sequence, int], torch.Tensor] | None = None
        # for each prompt to score: the number of alternatives per token, and the scores so far
        self._scores: dict[SequenceKey, tuple[int, list[TokenLogprobs]]] = {}
        # sequences that generate nothing and were read with finite logits
        self._read: set[SequenceKey] = set()
        self.speculation: Speculation | None = None
        self._drafted = Drafted({}, torch.empty(0))

    def prepare(self, report: Report) -> Message | None:
        """Compile or capture what the model needs; returns why decoding is slower than planned."""
        return self.model.prepare(self.cache, report)

    def speculate(self, draft: ForwardModel | None = None) -> None:
        """Draft tokens from now on, where the model can verify them. The cache must be empty.

        `draft` is a small model that drafts too.
        """
        self.speculation = start_speculation(
            self.model, self.cache, draft, self.vocabulary, self._unused
        )

    def add(self, sequence: Sequence, sampler: RowSampler) -> None:
        """Prepare sampling for a completion before its first step."""
        self._samplers[sequence.key] = sampler
        if sequence.first_scored:
            self._scores[sequence.key] = (sampler.params.logprobs or 0, [])

    def remove(self, sequence: Sequence) -> bool:
        """Forget a completion that has ended; returns whether its keys and values can be reused."""
        sampler = self._samplers.pop(sequence.key)
        self._scores.pop(sequence.key, None)
        if self.speculation is not None:
            self.speculation.forget(sequence)
        # positions with finite logits are valid; the others may hold NaN
        has_decoded = len(sequence.generated_token_ids) > sequence.resumed
        is_sound = (has_decoded or sequence.key in self._read) and not sampler.broken
        self._read.discard(sequence.key)
        return is_sound

    @torch.inference_mode()
    def run(self, step: Step) -> StepResult:
        """Run one step; appends the tokens to their sequences."""
        for page in step.cleared:
            self.cache.clear(page)
        for placement in step.placements:
            self.cache.place(placement.slot, placement.pages, placement.copied)
            if self.speculation is not None:
                self.speculation.place(placement)
        logits = self._take_ahead(step.decode)  # fp32 [wanted, padded_vocabulary]
        drafts = self._draft(step.decode)
        batch = Batch(
            rows=None if logits is not None else _decode_rows(step.decode, drafts),
            chunks=[self._chunk(chunk) for chunk in step.prefill],
        )
        if batch.rows is not None or batch.chunks:
            computed = self.model.forward(self.cache, batch)
            logits = computed if logits is None else torch.cat((logits, computed))
        if logits is None:
            return StepResult([], [], [])
        return self._sample(step, drafts, batch, logits)

    @torch.inference_mode()
    def verify(self, rows: Rows[Sequence]) -> list[tuple[Sequence, Sampled]]:
        """The next token of each row whose newest token agrees with its draft.

        `rows` are the rows of the previous result that have not ended. Call it until it returns
        nothing.
        """
        agreeing, places = self._drafted.agreeing(rows)
        if not agreeing:
            return []
        sampled = self._sample_rows(agreeing, places, self._drafted.logits)
        return list(zip(agreeing, sampled, strict=True))

    def _draft(self, rows: Rows[Sequence]) -> list[Proposal]:
        """The tokens that are verified after each row's newest one."""
        if self.speculation is None or not rows:
            return [Proposal([], "") for _ in rows]
        samplers = [self._samplers[row.key] for row in rows]
        return self.speculation.draft(rows, samplers, self.model.shape.context_length)

    def _sample(
        self, step: Step, drafts: list[Proposal], batch: Batch, logits: torch.Tensor
    ) -> StepResult:
        """Scores and tokens from the logits of a step, fp32 [wanted, padded_vocabulary].

        All copies to the host are queued before it waits for the first.
        """
        rows = list(step.decode)
        # the rows' indices in the logits
        *places, end = itertools.accumulate((1 + len(one.token_ids) for one in drafts), initial=0)
        self._drafted = Drafted.of(rows, drafts, places, logits)
        queued: list[tuple[list[TokenLogprobs], LogprobsReader]] = []
        scored: list[tuple[Sequence, list[TokenLogprobs]]] = []
        for chunk, computed_chunk in zip(step.prefill, batch.chunks, strict=True):
            begin, end = end, end + computed_chunk.wanted
            sequence = chunk.sequence
            if sequence.key in self._scores:
                queued += self._score(chunk, logits[begin:end])
                if chunk.is_last:
                    scored.append((sequence, self._scores.pop(sequence.key)[1]))
            if chunk.is_last and self._generates(sequence):
                rows.append(sequence)
                places.append(end - 1)
        expanding = [number for number, row in enumerate(rows) if self._expands(row)]
        expanded: list[tuple[Sequence, Children | None]] = []
        if expanding:
            expanded = self._expand([(rows[i], places[i]) for i in expanding], logits)
            for number in reversed(expanding):
                del rows[number], places[number]
        sampled = self._sample_rows(rows, places, logits) if rows else []
        for scores, read in queued:
            scores += read()
        for sequence, scores in scored:
            if scores and math.isfinite(sum(score.logprob for score in scores)):
                self._read.add(sequence.key)
        return StepResult(scored, expanded, list(zip(rows, sampled, strict=True)))

    def _expands(self, row: Sequence) -> bool:
        return self._samplers[row.key].request.expansion is not None

    def _expand(
        self, rows: list[tuple[Sequence, int]], logits: torch.Tensor
    ) -> list[tuple[Sequence, Children | None]]:
        """The tokens that can follow each row; `rows` has each row with its index in the logits."""
        queued = []
        for _, group in itertools.groupby(rows, key=lambda one: one[0].request_id):
            own = list(group)
            samplers = [self._samplers[row.key] for row, _ in own]
            part = logits[upload([place for _, place in own], torch.int64, logits.device)]
            queued.append((own, expand(samplers, part, self.vocabulary, self._unused)))
        expanded = []
        for own, read in queued:
            for (row, _), children in zip(own, read(), strict=True):
                row.prefilled = row.given_length
                self._read.add(row.key)
                self._samplers[row.key].broken = children is None
                expanded.append((row, children))
        return expanded

    def _sample_rows(
        self, rows: list[Sequence], places: list[int], logits: torch.Tensor
    ) -> list[Sampled]:
        """A token for each row, appended to it; `places` are the rows' indices in the logits."""
        if len(places) < len(logits):
            logits = logits[upload(places, torch.int64, logits.device)]
        sampler = self._sampler_batch(rows)
        sampled = sampler.sample(
            logits, self._reader(rows) if self._may_launch_ahead(rows) else _read
        )
        for row, one in zip(rows, sampled, strict=True):
            if one.token_id is not None:
                row.generated_token_ids.append(one.token_id)
            elif one.ended is None:
                self._samplers[row.key].broken = True
        return sampled

    def _generates(self, sequence: Sequence) -> bool:
        return self._samplers[sequence.key].params.max_new_tokens > 0

    def _chunk(self, chunk: PrefillChunk) -> Chunk:
        """The chunk, with `wanted` set to the number of its last tokens whose logits are needed."""
        sequence = chunk.sequence
        token_ids = sequence.given_token_ids[chunk.start : chunk.end]
        if sequence.key in self._scores:
            wanted = max(0, chunk.end - max(chunk.start, sequence.first_scored - 1))
        else:
            wanted = int(chunk.is_last and self._generates(sequence))
        return Chunk(token_ids, sequence.slot, chunk.start, wanted)

    def _score(
        self, chunk: PrefillChunk, logits: torch.Tensor
    ) -> list[tuple[list[TokenLogprobs], LogprobsReader]]:
        """Queue the scores of the tokens that follow the chunk's tokens, with their positions."""
        alternatives, scores = self._scores[chunk.sequence.key]
        first = max(chunk.start + 1, chunk.sequence.first_scored)
        following = chunk.sequence.prompt_token_ids[first : chunk.end + 1]
        if not following:
            return []
        targets = upload(following, torch.int64, logits.device)
        part = logits[: len(following)]
        return [(scores, score(part, self.vocabulary, targets, alternatives, self._unused))]

    def _take_ahead(self, rows: Rows[Sequence]) -> torch.Tensor | None:
        """fp32 logits [rows, padded_vocabulary] of the queued step, if it covers all these rows."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or not rows:
            return None
        places, logits = ahead
        numbers = [places.get(row, -1) for row in rows]
        if -1 in numbers:  # a row is new: decode all rows again
            return None
        if numbers == [*range(len(logits))]:
            return logits
        return logits[upload(numbers, torch.int64, logits.device)]

    def _may_launch_ahead(self, rows: Rows[Sequence]) -> bool:
        """Whether every row may go on after its next token."""
        return self.model.queues_ahead and all(
            row.length + 1 < self.model.shape.context_length
            and len(row.generated_token_ids) + 1 < self._samplers[row.key].params.max_new_tokens
            for row in rows
        )

    def _reader(self, rows: list[Sequence]) -> Callable[[torch.Tensor], list[int]]:
        """A function that downloads these rows' tokens and queues their next step meanwhile."""

        def read(tokens: torch.Tensor) -> list[int]:
            wait = download(tokens)
            following = DecodeRows(
                tokens.clamp(min=0), [row.length for row in rows], [row.slot for row in rows]
            )
            logits = self.model.forward(self.cache, Batch(following))
            self._ahead = {row: place for place, row in enumerate(rows)}, logits
            return wait()

        return read

    def _sampler_batch(self, rows: Rows[Sequence]) -> SamplerBatch:
        samplers = [self._samplers[row.key] for row in rows]
        if self._batch is None or self._batch.rows != samplers:
            self._batch = SamplerBatch(samplers, self.vocabulary, self.model.device, self._unused)
        return self._batch


def _read(tokens: torch.Tensor) -> list[int]:
    """The tokens, as soon as the device has them."""
    return download(tokens)()


def _decode_rows(rows: Rows[Sequence], drafts: list[Proposal]) -> DecodeRows | None:
    """The newest token of each row, at position `length` - 1, and those drafted after it."""
    if not rows:
        return None
    token_ids, positions, slots = [], [], []
    for row, draft in zip(rows, drafts, strict=True):
        for position, token_id in enumerate(
            (row.newest_token_id, *draft.token_ids), row.length - 1
        ):
            token_ids.append(token_id)
            positions.append(position)
            slots.append(row.slot)
    return DecodeRows(token_ids, positions, slots)
