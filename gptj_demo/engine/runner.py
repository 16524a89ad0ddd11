"""Runs a step: copies, one decode of all running rows, prefill chunks, sampling.

On CUDA the forward pass of the next step is queued as soon as the tokens of this one are on the
device, before the host has them, so the GPU computes while the host turns tokens into text. If a
row ends in the meantime, its logits are ignored. The KV position written for it is beyond the row's
last one, and every position is written before it is read. Sampling always waits for the host, so
controls that read the text so far stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from gptj_demo.engine.model import Batch, Chunk, ForwardModel, Report
from gptj_demo.engine.model import Rows as DecodeRows
from gptj_demo.engine.sampling import RowSampler, Sampled, SamplerBatch, score
from gptj_demo.engine.sampling.trace import Told
from gptj_demo.engine.scheduler import PrefillChunk, Sequence, SequenceKey, Step
from gptj_demo.engine.transfer import download, upload
from gptj_demo.protocol import TokenLogprobs
from gptj_demo.texts import Message


@dataclass(frozen=True, slots=True)
class StepResult:
    """The results of a step: scores of prompts, if requested, then tokens."""

    scored: list[tuple[Sequence, list[TokenLogprobs]]]
    tokens: list[tuple[Sequence, Sampled]]


class Runner:
    """A model, its KV cache, and the sampling state of each running completion."""

    def __init__(
        self,
        model: ForwardModel,
        max_streams: int,
        vocabulary: int,
        unused_token_ids: Rows[int] = (),
    ) -> None:
        """Ids below `vocabulary` can be sampled, except `unused_token_ids`."""
        self.model = model
        self.vocabulary = vocabulary
        self._unused = (
            upload(unused_token_ids, torch.int64, model.device) if unused_token_ids else None
        )
        self.cache = model.make_cache(max_streams)
        self._samplers: dict[SequenceKey, RowSampler] = {}
        self._batch: SamplerBatch | None = None
        # the queued step: each row's index in its logits
        self._ahead: tuple[dict[Sequence, int], torch.Tensor] | None = None
        # of prompts to score: the number of alternatives per token, and the scores so far
        self._scores: dict[SequenceKey, tuple[int, list[TokenLogprobs]]] = {}

    def prepare(self, report: Report) -> Message | None:
        """Compile or capture what the model needs; returns why decoding is slower than planned."""
        return self.model.prepare(self.cache, report)

    def add(self, sequence: Sequence, sampler: RowSampler) -> None:
        """Prepare sampling for a completion before its first step."""
        self._samplers[sequence.key] = sampler
        if sequence.reads_all:
            self._scores[sequence.key] = (sampler.params.logprobs or 0, [])

    def remove(self, sequence: Sequence) -> bool:
        """Forget a completion that is over; whether its slot's KV can be reused."""
        sampler = self._samplers.pop(sequence.key)
        self._scores.pop(sequence.key, None)
        # positions with finite logits are valid; the others may hold NaN
        has_decoded = len(sequence.generated_token_ids) > sequence.resumed
        is_sound = has_decoded and not sampler.broken
        if sequence.slot >= 0 and not is_sound:
            # one more position than it has: a step may have been queued ahead
            self.cache.clear(sequence.slot, sequence.length + 1)
        return is_sound

    @torch.inference_mode()
    def run(self, step: Step) -> StepResult:
        """One step; tokens are appended to their sequences."""
        for copy in step.copies:
            self.cache.copy(copy.source, copy.target, copy.length)
        logits = self._take_ahead(step.decode)  # fp32 [wanted, padded_vocabulary]
        batch = Batch(
            rows=None if logits is not None else self._decode_rows(step.decode),
            chunks=[self._chunk(chunk) for chunk in step.prefill],
        )
        if batch.rows is not None or batch.chunks:
            computed = self.model.forward(self.cache, batch)
            logits = computed if logits is None else torch.cat((logits, computed))
        if logits is None:
            return StepResult([], [])
        return self._sample(step, batch, logits)

    def _sample(self, step: Step, batch: Batch, logits: torch.Tensor) -> StepResult:
        """Scores and tokens from the logits of a step, fp32 [wanted, padded_vocabulary].

        All copies to the host are queued before it waits for the first.
        """
        rows = list(step.decode)
        places = [*range(len(rows))]  # of the rows in the logits
        queued: list[tuple[list[TokenLogprobs], Told]] = []
        scored: list[tuple[Sequence, list[TokenLogprobs]]] = []
        end = len(rows)
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
        sampled = self._sample_rows(rows, places, logits) if rows else []
        for scores, told in queued:
            scores += told()
        return StepResult(scored, list(zip(rows, sampled, strict=True)))

    def _sample_rows(
        self, rows: list[Sequence], places: list[int], logits: torch.Tensor
    ) -> list[Sampled]:
        """A token for each row, appended to it; `places` are the rows' indices in the logits."""
        if len(places) < len(logits):
            logits = logits[upload(places, torch.int64, logits.device)]
        steps = [len(row.generated_token_ids) for row in rows]
        sampler = self._sampler_batch(rows)
        sampled = sampler.sample(
            logits,
            steps,
            self._reader(rows) if self._may_launch_ahead(rows) else torch.Tensor.tolist,
        )
        for row, one in zip(rows, sampled, strict=True):
            if one.token_id is None:
                self._samplers[row.key].broken = True
            else:
                row.generated_token_ids.append(one.token_id)
        return sampled

    def _generates(self, sequence: Sequence) -> bool:
        return self._samplers[sequence.key].params.max_new_tokens > 0

    def _chunk(self, chunk: PrefillChunk) -> Chunk:
        """The chunk, with `wanted` set to the number of its last tokens whose logits are needed."""
        sequence = chunk.sequence
        token_ids = sequence.given_token_ids[chunk.start : chunk.end]
        if sequence.key in self._scores:
            wanted = len(token_ids)
        else:
            wanted = int(chunk.is_last and self._generates(sequence))
        return Chunk(token_ids, sequence.slot, chunk.start, wanted)

    def _score(
        self, chunk: PrefillChunk, logits: torch.Tensor
    ) -> list[tuple[list[TokenLogprobs], Told]]:
        """Queue the scores of the tokens that follow the chunk's tokens, with their positions."""
        alternatives, scores = self._scores[chunk.sequence.key]
        following = chunk.sequence.prompt_token_ids[chunk.start + 1 : chunk.end + 1]
        if not following:
            return []
        targets = upload(following, torch.int64, logits.device)
        part = logits[: len(following)]
        return [(scores, score(part, self.vocabulary, targets, alternatives, self._unused))]

    @staticmethod
    def _decode_rows(rows: Rows[Sequence]) -> DecodeRows | None:
        if not rows:
            return None
        # the newest token is read now: it stands at position length - 1
        return DecodeRows(
            [row.newest_token_id for row in rows],
            [row.length - 1 for row in rows],
            [row.slot for row in rows],
        )

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
