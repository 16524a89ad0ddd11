"""Carries out a step: prefill chunks, one decode of all running rows, sampling."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import torch

from gptj_demo.engine.gptj import GPTJ
from gptj_demo.engine.sampler import RowSampler, SamplerBatch
from gptj_demo.engine.scheduler import Sequence, Step


class Runner:
    """A model, its KV cache, and the sampling state of each running request."""

    def __init__(self, model: GPTJ, max_streams: int, vocabulary: int) -> None:
        self.model = model
        self.vocabulary = vocabulary
        self.cache = model.make_cache(max_streams)
        self._samplers: dict[int, RowSampler] = {}
        self._batch: SamplerBatch | None = None

    def add(self, request_id: int, sampler: RowSampler) -> None:
        """Know how to sample for a request before its first step."""
        self._samplers[request_id] = sampler

    def remove(self, request_id: int) -> None:
        """Forget a request that is over."""
        self._samplers.pop(request_id, None)

    @torch.inference_mode()
    def run(self, step: Step) -> list[tuple[Sequence, int]]:
        """One step; the sequences that got a token, with it. Appends it to the sequence."""
        rows: list[Sequence] = []
        hidden: list[torch.Tensor] = []  # [rows, d_model] each
        device = self.model.device
        if step.decode:
            hidden.append(self._decode(step.decode))
            rows += step.decode
        for chunk in step.prefill:
            sequence = chunk.sequence
            token_ids = torch.tensor(
                sequence.prompt_token_ids[chunk.start : chunk.end], device=device
            )
            read = self.model.prefill(self.cache, sequence.slot, token_ids, chunk.start)
            if chunk.completes_prompt:
                hidden.append(read[-1:])
                rows.append(sequence)
        if not rows:
            return []
        logits = self.model.logits(hidden[0] if len(hidden) == 1 else torch.cat(hidden))
        tokens = self._sampler_batch(rows).sample(
            logits, [len(row.generated_token_ids) for row in rows]
        )
        for row, token in zip(rows, tokens, strict=True):
            row.generated_token_ids.append(token)
        return list(zip(rows, tokens, strict=True))

    def _decode(self, rows: Rows[Sequence]) -> torch.Tensor:
        device = self.model.device
        slots = [row.slot for row in rows]
        # the newest token is the one that is read now: it stands at position length - 1
        lengths = [row.length for row in rows]
        return self.model.decode(
            self.cache,
            torch.tensor([row.generated_token_ids[-1] for row in rows], device=device),
            torch.tensor([length - 1 for length in lengths], device=device),
            torch.tensor(slots, device=device),
            self.model.decode_runs(slots, lengths),
        )

    def _sampler_batch(self, rows: Rows[Sequence]) -> SamplerBatch:
        samplers = [self._samplers[row.request_id] for row in rows]
        if self._batch is None or self._batch.rows != samplers:
            self._batch = SamplerBatch(samplers, self.vocabulary, self.model.device)
        return self._batch
