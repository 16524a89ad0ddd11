"""Carries out a step: copies, one decode of all running rows, prefill chunks, sampling."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch

from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.logprobs import score
from gptj_demo.engine.sampler import RowSampler, Sampled, SamplerBatch
from gptj_demo.engine.scheduler import PrefillChunk, Sequence, SequenceKey, Step
from gptj_demo.protocol import TokenLogprobs


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step made: the scores of prompts that are read, where asked for, then tokens."""

    scored: list[tuple[Sequence, list[TokenLogprobs]]]
    tokens: list[tuple[Sequence, Sampled]]


class Runner:
    """A model, its KV cache, and the sampling state of each running completion."""

    def __init__(self, model: GPTJ, max_streams: int, vocabulary: int) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.cache = model.make_cache(max_streams)
        self._samplers: dict[SequenceKey, RowSampler] = {}
        self._batch: SamplerBatch | None = None
        # by request: how many alternatives a token is told, and the scores so far
        self._scores: dict[int, tuple[int, list[TokenLogprobs]]] = {}

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
            self.cache.clear(sequence.slot, sequence.length)
        return is_sound

    def forget(self, request_id: int) -> None:
        """Forget a request of which no completion is left."""
        self._scores.pop(request_id, None)

    @torch.inference_mode()
    def run(self, step: Step) -> StepResult:
        """One step; tokens are appended to their sequences."""
        rows: list[Sequence] = []
        hidden: list[torch.Tensor] = []  # [rows, d_model] each
        scored: list[tuple[Sequence, list[TokenLogprobs]]] = []
        for copy in step.copies:
            self.cache.copy(copy.source, copy.target, copy.length)
        if step.decode:
            hidden.append(self._decode(step.decode))
            rows += step.decode
        for chunk in step.prefill:
            read = self._prefill(chunk)
            if not chunk.completes_prompt:
                continue
            sequence = chunk.sequence
            if sequence.request_id in self._scores:
                scored.append((sequence, self._scores.pop(sequence.request_id)[1]))
            if self._samplers[sequence.key].params.max_new_tokens > 0:
                hidden.append(read[-1:])
                rows.append(sequence)
        if not rows:
            return StepResult(scored, [])
        logits = self.model.logits(hidden[0] if len(hidden) == 1 else torch.cat(hidden))
        steps = [len(row.generated_token_ids) for row in rows]
        sampled = self._sampler_batch(rows).sample(logits, steps)
        for row, one in zip(rows, sampled, strict=True):
            if one.token_id is None:
                self._samplers[row.key].broken = True
            else:
                row.generated_token_ids.append(one.token_id)
        return StepResult(scored, list(zip(rows, sampled, strict=True)))

    def _prefill(self, chunk: PrefillChunk) -> torch.Tensor:
        """Hidden states of the chunk, [length, d_model]; scores its tokens where that is asked."""
        sequence, device = chunk.sequence, self.model.device
        prompt = sequence.prompt_token_ids
        token_ids = torch.tensor(prompt[chunk.start : chunk.end], device=device)
        read = self.model.prefill(self.cache, sequence.slot, token_ids, chunk.start)
        wanted = self._scores.get(sequence.request_id)
        if wanted is not None:
            alternatives, scores = wanted
            # each state tells of the token after it, the last one of the prompt of none
            following = torch.tensor(prompt[chunk.start + 1 : chunk.end + 1], device=device)
            if len(following):
                logits = self.model.logits(read[: len(following)])
                scores += score(logits, self.vocabulary, following, alternatives)
        return read

    def _decode(self, rows: Rows[Sequence]) -> torch.Tensor:
        device = self.model.device
        slots = [row.slot for row in rows]
        # the newest token is the one that is read now: it stands at position length - 1
        lengths = [row.length for row in rows]
        return self.model.decode(
            self.cache,
            torch.tensor([row.newest_token_id for row in rows], device=device),
            torch.tensor([length - 1 for length in lengths], device=device),
            torch.tensor(slots, device=device),
            self.model.decode_runs(slots, lengths),
        )

    def _sampler_batch(self, rows: Rows[Sequence]) -> SamplerBatch:
        samplers = [self._samplers[row.key] for row in rows]
        if self._batch is None or self._batch.rows != samplers:
            self._batch = SamplerBatch(samplers, self.vocabulary, self.model.device)
        return self._batch
