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

from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.graphs import DecodeGraphs, Report
from gptj_demo.engine.logprobs import score
from gptj_demo.engine.sampler import RowSampler, Sampled, SamplerBatch
from gptj_demo.engine.scheduler import PrefillChunk, Sequence, SequenceKey, Step
from gptj_demo.engine.transfer import download, upload
from gptj_demo.protocol import TokenLogprobs
from gptj_demo.texts import Message, message


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
        self.graphs = DecodeGraphs(model, self.cache) if model.device.type == "cuda" else None
        # what is queued already: by row its place in the logits of the next step
        self._ahead: tuple[dict[Sequence, int], torch.Tensor] | None = None
        # by request: how many alternatives a token is told, and the scores so far
        self._scores: dict[int, tuple[int, list[TokenLogprobs]]] = {}

    def prepare(self, report: Report) -> Message | None:
        """Capture graphs, where there are any; why decoding is slower where that failed."""
        if self.graphs is None:
            return None
        self.graphs.prepare(report)
        if self.graphs.failure is None:
            return None
        return message("why.slower", reason=self.graphs.failure)

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
        rows: list[Sequence] = []
        logits: list[torch.Tensor] = []  # fp32 [rows, padded_vocabulary] each
        hidden: list[torch.Tensor] = []  # [rows, d_model] each
        scored: list[tuple[Sequence, list[TokenLogprobs]]] = []
        for copy in step.copies:
            self.cache.copy(copy.source, copy.target, copy.length)
        if step.decode:
            decoded = self._decode_by_graph(step.decode)
            if decoded is None:
                hidden.append(self._decode(step.decode))
            else:
                logits.append(decoded)
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
        if hidden:
            logits.append(self.model.logits(hidden[0] if len(hidden) == 1 else torch.cat(hidden)))
        steps = [len(row.generated_token_ids) for row in rows]
        batch = self._sampler_batch(rows)
        sampled = batch.sample(
            logits[0] if len(logits) == 1 else torch.cat(logits),
            steps,
            self._reader(rows) if self._may_launch_ahead(rows, batch) else torch.Tensor.tolist,
        )
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
        token_ids = upload(prompt[chunk.start : chunk.end], torch.int64, device)
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

    def _decode_by_graph(self, rows: Rows[Sequence]) -> torch.Tensor | None:
        """fp32 logits [rows, padded_vocabulary]; None where there are no graphs."""
        ahead, self._ahead = self._ahead, None
        if self.graphs is None:
            return None
        if ahead is not None:
            places, logits = ahead
            numbers = [places.get(row, -1) for row in rows]
            if -1 not in numbers:  # else some row is new, and all are decoded (again)
                if numbers == [*range(len(logits))]:
                    return logits
                return logits[upload(numbers, torch.int64, logits.device)]
        return self.graphs.launch(
            [row.newest_token_id for row in rows],
            [row.length - 1 for row in rows],
            [row.slot for row in rows],
        )

    def _may_launch_ahead(self, rows: Rows[Sequence], batch: SamplerBatch) -> bool:
        """Whether every row may go on after its next token, and nothing else is to be read back."""
        return (
            self.graphs is not None
            and self.graphs.failure is None
            and not batch.wants_logprobs
            and all(
                row.length + 1 < self.model.context_length
                and len(row.generated_token_ids) + 1 < self._samplers[row.key].params.max_new_tokens
                for row in rows
            )
        )

    def _reader(self, rows: list[Sequence]) -> Callable[[torch.Tensor], list[int]]:
        """Reads the tokens that these rows get, behind which it queues their next step."""

        def read(tokens: torch.Tensor) -> list[int]:
            assert self.graphs is not None
            wait = download(tokens)
            logits = self.graphs.launch(
                tokens.clamp(min=0), [row.length for row in rows], [row.slot for row in rows]
            )
            if logits is not None:
                self._ahead = {row: place for place, row in enumerate(rows)}, logits
            return wait()

        return read

    def _sampler_batch(self, rows: Rows[Sequence]) -> SamplerBatch:
        samplers = [self._samplers[row.key] for row in rows]
        if self._batch is None or self._batch.rows != samplers:
            self._batch = SamplerBatch(samplers, self.vocabulary, self.model.device)
        return self._batch
