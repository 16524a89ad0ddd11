"""From logits to tokens and their probabilities, for all rows of a batch at once.

The result of a row depends only on its own logits, controls and noise. The noise depends only on
the seed, the position and the token id (see `noise`). So a request gets the same tokens alone and
in a batch. For this to hold to the last bit, a sum over a row is made by softmax, which handles the
rows one by one, or is a sum of integers. A control works on all of its rows at once; a control that
no row uses costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from gptj_demo.engine.sampling import noise
from gptj_demo.engine.sampling.control import Control, UsingRows, index_of
from gptj_demo.engine.sampling.controls import EFFECTS
from gptj_demo.engine.sampling.everyday import EVERYDAY, Everyday
from gptj_demo.engine.sampling.guides import Ended
from gptj_demo.engine.sampling.numba_code import compiled_code
from gptj_demo.engine.sampling.row import RowSampler
from gptj_demo.engine.sampling.trace import Trace
from gptj_demo.engine.transfer import download, upload
from gptj_demo.protocol import TokenLogprobs
from gptj_demo.sampling import PROCESSORS

MOST_MEMORY: dict[str, Any] = {
    "repetition_penalty": 1.1,
    "tfs": 0.9,
    "typical_p": 0.9,
    "logprobs": 1,
}
"""Settings that make the most copies of the logits at a time: `load/memory.py` plans for them."""

Read = Callable[[torch.Tensor], list[int]]  # int64 [rows] -> the same on the host


class Sampled(NamedTuple):
    """The result of sampling for one row.

    `token_id` is None if the logits were NaN or infinite, or if no token can follow, which `ended`
    then explains.
    """

    token_id: int | None
    logprobs: TokenLogprobs | None
    filtered_away: bool
    ended: Ended | None = None


class Controlled(NamedTuple):
    """The logits after the controls, [rows, vocabulary]: -inf where a control removed the token.

    `adjusted` is after the processors; greedy rows take its most probable token. `scaled` is after
    the filters; the other rows draw from it. It is None if there are no other rows. `emptied`, bool
    [rows], says in which rows no token was left; None if no row can be empty.
    """

    adjusted: torch.Tensor
    scaled: torch.Tensor | None
    emptied: torch.Tensor | None


class SamplerBatch:
    """The rows of a batch with their controls; made anew when the rows change."""

    def __init__(
        self,
        rows: Sequence[RowSampler],
        vocabulary: int,
        device: torch.device,
        unused: torch.Tensor | None = None,
    ) -> None:
        """`unused` holds the ids below `vocabulary` that must not be chosen, int64."""
        self.rows = list(rows)
        self.vocabulary = vocabulary
        self.device = device
        self._unused = unused
        greedy = [row.greedy for row in self.rows]
        self._all_greedy, self._any_greedy = all(greedy), any(greedy)
        self._greedy = upload(greedy, torch.bool, device)
        self._processors = list(self._controls(PROCESSORS, range(len(self.rows))))
        self._may_empty = any(control.may_empty for control in self._processors)

        # rows that apply the filters in the same order go through them together
        by_order: dict[tuple[str, ...], list[int]] = {}
        for number, row in enumerate(self.rows):
            if not row.greedy:
                by_order.setdefault(row.params.sampler_order, []).append(number)
        compiled = compiled_code(device)
        self._everyday: Everyday | None = None
        if compiled is not None:
            usual = [o for o in by_order if o[: len(EVERYDAY)] == EVERYDAY]
            numbers = [number for order in usual for number in by_order[order]]
            self._everyday = Everyday(compiled, self.rows, numbers)
            for order in usual:
                by_order.setdefault(order[len(EVERYDAY) :], []).extend(by_order.pop(order))
        self._filters = [
            control
            for order, numbers in by_order.items()
            for control in self._controls(order, numbers)
        ]
        self._noise_keys = np.array([row.noise_key for row in self.rows], dtype=np.uint64)
        self._increments = None if self._everyday else noise.increments(vocabulary, device)

        wanting = {number for number, row in enumerate(self.rows) if row.wants_logprobs}
        for control in (*self._processors, *self._filters):
            if control.keeps_state:  # its rows can be resumed only with log-probabilities
                wanting.update(control.users.numbers)
        self._wanting = sorted(wanting)
        self._wanting_index = index_of(self._wanting, len(self.rows), device)
        self._alternatives = max((row.params.logprobs or 0 for row in self.rows), default=0)

    def _controls(self, names: Iterable[str], numbers: Sequence[int]) -> Iterable[Control]:
        """The controls of these names, each for the rows that use it."""
        for name in names:
            effect = EFFECTS[name]
            using = [number for number in numbers if effect.uses(self.rows[number])]
            if using:
                yield effect(UsingRows(self.rows, using, self.vocabulary, self.device))

    def sample(self, logits: torch.Tensor, read: Read = torch.Tensor.tolist) -> list[Sampled]:
        """One token for each row.

        `logits` is fp32 [rows, padded_vocabulary]; ids past the vocabulary are never chosen. `read`
        copies the tokens to the host, -1 for rows whose logits were NaN or infinite, and may first
        use them on the device. It is the only place where the host waits for the device.
        """
        padded, logits = logits, logits[:, : self.vocabulary]
        if self._unused is not None:
            logits = logits.index_fill(1, self._unused, -torch.inf)
        peak = logits.amax(dim=1)  # NaN if one of them is NaN
        broken = (peak - peak) != 0  # also true for infinity, as inf - inf is NaN
        trace = None
        if self._wanting:
            trace = Trace(
                padded, self.vocabulary, self._wanting_index, self._alternatives, self._unused
            )
        adjusted, emptied = self._adjust(logits, trace)
        if self._everyday is not None and not self._filters and trace is None:
            scaled = None
            untouched = adjusted is logits and self._unused is None
            tokens = self._everyday.apply_and_draw(
                padded if untouched else adjusted, self.vocabulary, self._keys()
            )
        else:
            scaled = None if self._all_greedy else self._scale(adjusted, trace)
            tokens = self._choose(adjusted, scaled)
        for control in (*self._processors, *self._filters):
            control.observe(tokens, scaled)
        read_logprobs = None
        if trace is not None:
            wanted = [self.rows[number].params.logprobs or 0 for number in self._wanting]
            read_logprobs = trace.queue_logprobs(tokens, scaled, self._greedy, wanted)
        read_emptied = None if emptied is None else download(emptied)
        chosen = read(tokens.masked_fill(broken, -1))
        for row, token in zip(self.rows, chosen, strict=True):
            row.add(token)
        endings = [row.guide.ended if row.guide else None for row in self.rows]
        for control in self._processors:
            control.note(chosen)
        logprobs = {}
        if read_logprobs is not None:
            logprobs = dict(zip(self._wanting, read_logprobs(), strict=True))
        is_emptied = read_emptied() if read_emptied else [False] * len(chosen)
        return [
            Sampled(token, logprobs.get(number), is_emptied[number])
            if token >= 0 and ended is None
            else Sampled(None, None, False, ended)
            for number, (token, ended) in enumerate(zip(chosen, endings, strict=True))
        ]

    # ---- applying the controls

    def controlled(self, logits: torch.Tensor) -> Controlled:
        """Apply the controls to `logits`, fp32 [rows, vocabulary], without changing these."""
        adjusted, emptied = self._adjust(logits, None)
        scaled = None if self._all_greedy else self._scale(adjusted, None)
        return Controlled(adjusted, scaled, emptied)

    def _adjust(
        self, logits: torch.Tensor, trace: Trace | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The logits after the processors, and which rows they emptied; None if they empty none."""
        if not self._processors:
            return logits, None
        adjusted = logits.clone()
        for control in self._processors:
            control.apply(adjusted)
            if trace is not None:
                trace.note(control.name, adjusted)
        if not self._may_empty:
            return adjusted, None
        empty = adjusted.amax(dim=1) == -torch.inf
        # an emptied row keeps the model's most probable token that the binding controls allow
        allowed = logits
        for control in self._processors:
            if control.is_binding:
                allowed = allowed.clone() if allowed is logits else allowed
                control.apply(allowed)
        if allowed is not logits:  # two binding controls can contradict each other
            none_left = allowed.amax(dim=1, keepdim=True) == -torch.inf
            allowed = torch.where(none_left, logits, allowed)
        likeliest = allowed.argmax(dim=1, keepdim=True)
        alone = torch.full_like(logits, -torch.inf).scatter_(1, likeliest, 0.0)
        return torch.where(empty[:, None], alone, adjusted), empty

    def _scale(self, adjusted: torch.Tensor, trace: Trace | None) -> torch.Tensor:
        """The logits after the filters. `adjusted` stays as it is."""
        scaled = adjusted
        if self._everyday is not None:
            scaled = self._everyday.apply(adjusted, trace)
        if self._filters and scaled is adjusted:
            scaled = adjusted.clone()
        for control in self._filters:
            control.apply(scaled)
            if trace is not None:
                trace.note(control.name, scaled)
        return scaled

    # ---- choosing a token

    def _choose(self, adjusted: torch.Tensor, scaled: torch.Tensor | None) -> torch.Tensor:
        """A token for each row, int64 [rows]: drawn, or the most probable one."""
        if scaled is None:
            return adjusted.argmax(dim=1)
        tokens = self._draw(scaled, self._keys())
        if self._any_greedy:
            tokens = torch.where(self._greedy, adjusted.argmax(dim=1), tokens)
        return tokens

    def _draw(self, scaled: torch.Tensor, keys: np.ndarray) -> torch.Tensor:
        """Gumbel-max over the logits after the filters: see `noise`."""
        if self._everyday is not None:
            return self._everyday.draw(scaled, keys)
        assert self._increments is not None
        on_device = upload(keys.view(np.int64).tolist(), torch.int64, self.device)
        return noise.draw(scaled.softmax(dim=1), on_device[:, None], self._increments)

    def _keys(self) -> np.ndarray:
        """The noise keys of the positions that the drawn tokens get: uint64 [rows]."""
        positions = [row.next_position for row in self.rows]
        return noise.position_keys(self._noise_keys, positions)
