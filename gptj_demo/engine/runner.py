"""Carries out a step: copies, one decode of all running rows, prefill chunks, sampling.

On CUDA the forward pass of the next step is queued as soon as the tokens of this one are known on
the device, before the host has seen them: so the GPU computes while the host turns tokens into
text. What comes of it for a row that is over by then is not looked at; and what it stores stands
beyond that row's last position, where everything is written before it is read. Sampling always
waits for the host, so controls that look back at the text are as exact as without.
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
    """What a step made: the scores of prompts that are read, where asked for, then tokens."""

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
        # what is queued already: by row its place in the logits of the next step
        self._ahead: tuple[dict[Sequence, int], torch.Tensor] | None = None
        # by request: how many alternatives a token is told, and the scores so far
        self._scores: dict[int, tuple[int, list[TokenLogprobs]]] = {}

    def prepare(self, report: Report) -> Message | None:
        """Compile or capture what the model needs; returns why decoding is slower than planned."""
        return self.model.prepare(self.cache, report)

    def add(self, request_id: int, samplers: Rows[RowSampler]) -> None:
        """Know how to sample for the completions of a request before its first step."""
        for index, sampler in enumerate(samplers):
            self._samplers[request_id, index] = sampler
        params = samplers[0].params
        if params.echo:
            self._scores[request_id] = (params.logprobs or 0, [])

    def remove(self, sequence: Sequence) -> bool:
        """Forget a completion that is over; whether what its slot holds can be used again."""
        sampler = self._samplers.pop(sequence.key)
        # what gave a number for a token is sound; all else may hold not-a-numbers
        is_sound = bool(sequence.generated_token_ids) and not sampler.broken
        if sequence.slot >= 0 and not is_sound:
            # one more position than it has: a step may have been queued ahead
            self.cache.clear(sequence.slot, sequence.length + 1)
        return is_sound

    def forget(self, request_id: int) -> None:
        """Forget a request of which no completion is left."""
        self._scores.pop(request_id, None)

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

        What the host reads is queued before it waits for any of it.
        """
        rows = list(step.decode)
        places = [*range(len(rows))]  # of the rows in the logits
        queued: list[tuple[list[TokenLogprobs], Told]] = []
        scored: list[tuple[Sequence, list[TokenLogprobs]]] = []
        end = len(rows)
        for chunk, computed_chunk in zip(step.prefill, batch.chunks, strict=True):
            begin, end = end, end + computed_chunk.wanted
            sequence = chunk.sequence
            if sequence.request_id in self._scores:
                queued += self._score(chunk, logits[begin:end])
                if chunk.completes_prompt:
                    scored.append((sequence, self._scores.pop(sequence.request_id)[1]))
            if chunk.completes_prompt and self._generates(sequence):
                rows.append(sequence)
                places.append(end - 1)
        sampled = self._sample_rows(rows, places, logits) if rows else []
        for scores, told in queued:
            scores += told()
        return StepResult(scored, list(zip(rows, sampled, strict=True)))

    def _sample_rows(
        self, rows: list[Sequence], places: list[int], logits: torch.Tensor
    ) -> list[Sampled]:
        """A token for each row, appended to it; `places` are those of the rows in the logits."""
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
        """The chunk with the number of its last tokens whose logits are needed."""
        sequence = chunk.sequence
        token_ids = sequence.prompt_token_ids[chunk.start : chunk.end]
        if sequence.request_id in self._scores:
            wanted = len(token_ids)
        else:
            wanted = int(chunk.completes_prompt and self._generates(sequence))
        return Chunk(token_ids, sequence.slot, chunk.start, wanted)

    def _score(
        self, chunk: PrefillChunk, logits: torch.Tensor
    ) -> list[tuple[list[TokenLogprobs], Told]]:
        """Queue the scores of the tokens that follow those of the chunk, and where they belong."""
        alternatives, scores = self._scores[chunk.sequence.request_id]
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
        """fp32 logits [rows, padded_vocabulary] of a step that was queued for all these rows."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or not rows:
            return None
        places, logits = ahead
        numbers = [places.get(row, -1) for row in rows]
        if -1 in numbers:  # some row is new: all are decoded (again)
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
        """Reads the tokens that these rows get, behind which it queues their next step."""

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
