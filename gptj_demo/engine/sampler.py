"""Logits to tokens, row by row, all rows at once.

The controls apply in transformers' order: repetition penalty, temperature, top-k, top-p. A row's
result depends on its own logits, controls and random number alone, and the random number of a token
on the request's seed and the token's position alone, so the same request gives the same words in
any company.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gptj_demo.sampling import SamplingParams

# top-k and top-p look at this many of the most probable tokens first; sorting the whole
# vocabulary, which gives the same result, is only needed where these do not hold top_p
_CANDIDATES = 256


class RowSampler:
    """What sampling knows of one request: controls, random numbers, the tokens it has seen."""

    def __init__(
        self, params: SamplingParams, seed: int, prompt_token_ids: Sequence[int], vocabulary: int
    ) -> None:
        self.params = params
        # Philox is counter-based (Salmon et al. 2011): the n-th number of a key is fixed
        generator = np.random.Generator(np.random.Philox(key=seed))
        self.uniforms = generator.random(params.max_new_tokens)
        self.penalized: torch.Tensor | None = (
            None  # multiplies or divides these logits: [vocabulary]
        )
        if params.repetition_penalty != 1.0:
            self.penalized = torch.zeros(vocabulary, dtype=torch.bool)
            self.penalized[list(prompt_token_ids)] = True


class SamplerBatch:
    """The rows of a batch with their controls as tensors; made anew when the rows change."""

    def __init__(self, rows: Sequence[RowSampler], vocabulary: int, device: torch.device) -> None:
        self.rows = list(rows)
        self.vocabulary = vocabulary
        self.device = device
        params = [row.params for row in self.rows]

        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

        self.all_greedy = all(p.temperature == 0 for p in params)
        self.greedy = column([float(p.temperature == 0) for p in params])[:, 0] > 0
        self.any_greedy = any(p.temperature == 0 for p in params)
        # greedy rows are divided by one: their result is taken from the argmax
        self.temperature = column([p.temperature or 1.0 for p in params])
        self.any_filter = any((p.top_k > 0 or p.top_p < 1) and p.temperature > 0 for p in params)
        self.top_k = column([float(p.top_k or vocabulary) for p in params])
        self.largest_top_k = int(self.top_k.max())
        self.top_p = column([p.top_p for p in params])
        self.any_top_p = any(p.top_p < 1 and p.temperature > 0 for p in params)
        self.any_penalty = any(row.penalized is not None for row in self.rows)
        self.penalty = column([p.repetition_penalty for p in params])

    def sample(self, logits: torch.Tensor, steps: Sequence[int]) -> list[int]:
        """One token for each row.

        `logits` is fp32 [rows, padded_vocabulary]; ids past the vocabulary are never chosen.
        `steps[row]` says how many tokens the row has generated so far.
        """
        logits = logits[:, : self.vocabulary]
        if self.any_penalty:
            logits = self._penalize(logits)
        if self.all_greedy:
            tokens = logits.argmax(dim=1)
        else:
            tokens = self._draw(logits, steps)
            if self.any_greedy:
                tokens = torch.where(self.greedy, logits.argmax(dim=1), tokens)
        chosen: list[int] = tokens.tolist()
        if self.any_penalty:
            for row, token in zip(self.rows, chosen, strict=True):
                if row.penalized is not None:
                    row.penalized[token] = True
        return chosen

    def _penalize(self, logits: torch.Tensor) -> torch.Tensor:
        """Repetition penalty (Keskar et al. 2019), as transformers' processor of that name."""
        none = torch.zeros(self.vocabulary, dtype=torch.bool)
        seen = torch.stack([none if row.penalized is None else row.penalized for row in self.rows])
        penalized = torch.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return torch.where(seen.to(self.device), penalized, logits)

    def _draw(self, logits: torch.Tensor, steps: Sequence[int]) -> torch.Tensor:
        """Inverse-CDF sampling in the order of the ids, over what the filters leave."""
        scaled = logits / self.temperature
        if self.any_filter:
            scaled = scaled.masked_fill(scaled < self._threshold(scaled), -torch.inf)
        # the largest logit becomes 0, so at least one weight is 1 and none overflows
        weights = (scaled - scaled.amax(dim=1, keepdim=True)).exp()
        cumulative = weights.cumsum(dim=1, dtype=torch.float64)  # [rows, vocabulary]
        uniforms = [row.uniforms[step] for row, step in zip(self.rows, steps, strict=True)]
        target = torch.tensor(uniforms, dtype=torch.float64, device=self.device)[:, None]
        target = target * cumulative[:, -1:]
        # the first id whose cumulative weight exceeds the target has a weight of its own
        return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp_(
            max=self.vocabulary - 1
        )

    def _threshold(self, scaled: torch.Tensor) -> torch.Tensor:
        """The smallest logit each row keeps: [rows, 1]; -inf where it keeps all."""
        largest_top_k = self.largest_top_k
        candidates = min(_CANDIDATES, self.vocabulary)
        if candidates < largest_top_k < self.vocabulary:
            candidates = largest_top_k
        while True:
            values = scaled.topk(candidates, dim=1).values  # [rows, candidates], descending
            threshold, complete = self._threshold_among(values, scaled)
            if complete or candidates == self.vocabulary:
                return threshold
            candidates = self.vocabulary

    def _threshold_among(
        self, values: torch.Tensor, scaled: torch.Tensor
    ) -> tuple[torch.Tensor, bool]:
        """Threshold from the largest `values`, and whether these were enough to tell."""
        count = values.shape[1]
        rank = torch.arange(count, device=self.device)
        within_top_k = rank < self.top_k  # [rows, count]
        keep = within_top_k
        complete = True
        if self.any_top_p:
            # the mass is that of what top-k left, as the filters work one after the other
            unlimited = self.top_k >= self.vocabulary
            peak = values[:, :1]
            weights = (values - peak).exp() * within_top_k
            all_mass = (scaled - peak).exp().sum(dim=1, keepdim=True)
            mass = torch.where(unlimited, all_mass, weights.sum(dim=1, keepdim=True))
            before = weights.cumsum(dim=1) - weights
            in_nucleus = before < self.top_p * mass
            in_nucleus[:, 0] = True
            keep = keep & torch.where(self.top_p < 1, in_nucleus, True)
            needs_more = unlimited & (self.top_p < 1) & keep[:, -1:] & ~self.greedy[:, None]
            complete = not bool(needs_more.any()) or count == self.vocabulary
        kept = keep.sum(dim=1, keepdim=True)
        smallest = values.gather(1, kept - 1)
        keeps_all = (self.top_k >= self.vocabulary) & (self.top_p >= 1)
        return torch.where(keeps_all, -torch.inf, smallest), complete
