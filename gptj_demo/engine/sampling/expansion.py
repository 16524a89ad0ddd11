"""The most probable tokens that can follow each row, by the model or after the controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from gptj_demo.engine.sampling.batch import SamplerBatch
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.trace import most_probable
from gptj_demo.engine.transfer import download, upload

Children = tuple[tuple[int, float], ...]
"""Token ids and their log-probabilities, the most probable first."""


def expand(
    rows: Sequence[RowSampler],
    padded: torch.Tensor,
    vocabulary: int,
    unused: torch.Tensor | None = None,
) -> Callable[[], list[Children | None]]:
    """Queue the expansion of the rows of one request; the result waits for it.

    `padded` is fp32 [rows, padded_vocabulary]; ids past the vocabulary and `unused` are left out.
    The answer is None for a row whose logits were NaN or infinite.
    """
    expansion = rows[0].request.expansion
    assert expansion is not None
    logits = padded[:, :vocabulary]
    if unused is not None:
        logits = logits.index_fill(1, unused, -torch.inf)
    if expansion.after_controls:
        logprobs = _controlled(rows, logits, vocabulary, unused)
    else:  # over all rows of the head, as `GPTJForCausalLM` has it
        logprobs = padded.log_softmax(dim=1)[:, :vocabulary]
        if unused is not None:
            logprobs = logprobs.index_fill(1, unused, -torch.inf)
    peak = logits.amax(dim=1)
    top = most_probable(logprobs, min(expansion.most, vocabulary))
    ids, values = download(top), download(logprobs.gather(1, top))
    peaks = download(peak - peak)
    floors = [expansion.floors[row.index] for row in rows]

    def read() -> list[Children | None]:
        answers = zip(ids(), values(), floors, peaks(), strict=True)
        return [_children(*answer) for answer in answers]

    return read


def _controlled(
    rows: Sequence[RowSampler],
    logits: torch.Tensor,
    vocabulary: int,
    unused: torch.Tensor | None,
) -> torch.Tensor:
    """The log-probabilities that a draw follows, [rows, vocabulary]."""
    batch = SamplerBatch(rows, vocabulary, logits.device, unused)
    left = batch.controlled(logits)
    if left.scaled is not None:
        logprobs = left.scaled.log_softmax(dim=1)
    else:
        taken = left.adjusted.argmax(dim=1, keepdim=True)  # greedy: all on one token
        logprobs = torch.full_like(logits, -torch.inf).scatter_(1, taken, 0.0)
    ended = [number for number, row in enumerate(rows) if row.guide and row.guide.ended]
    if ended:  # nothing can follow a text that matches
        logprobs[upload(ended, torch.int64, logits.device)] = -torch.inf
    return logprobs


def _children(ids: list[int], values: list[float], floor: float, peak: float) -> Children | None:
    """The pairs from the floor on; `peak` is 0 if the logits were finite."""
    if peak != 0:
        return None
    pairs = zip(ids, values, strict=True)
    return tuple((token, value) for token, value in pairs if value >= floor and value > -torch.inf)
