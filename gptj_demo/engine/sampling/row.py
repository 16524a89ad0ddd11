"""The sampling state of one completion: its controls, its random numbers, its tokens so far."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch

from gptj_demo.engine.sampling import noise
from gptj_demo.engine.sampling.guides import Guide
from gptj_demo.engine.sampling.histories import History
from gptj_demo.protocol import Submit, Written
from gptj_demo.sampling import seed_after


class RowSampler:
    """The sampling state of one completion.

    `eos_token_ids` end a text. The first token is one of `first_token_ids` where these are given
    (token healing). Completion `index` has the seed `index` after the request's.
    `written` is what an earlier engine generated.
    """

    def __init__(
        self,
        request: Submit,
        index: int,
        eos_token_ids: Sequence[int],
        first_token_ids: Sequence[int] = (),
        written: Written = Written(),  # noqa: B008  # immutable
    ) -> None:
        params = request.params
        self.request = request
        self.params = params
        self.index = index
        self.greedy = params.temperature == 0
        self.broken = False  # whether its logits were NaN or infinite
        self.seed = seed_after(request.seed, index)
        self.noise_key = noise.request_key(self.seed, noise.DRAW)
        self.eos_token_ids = list(eos_token_ids)
        self.first_token_ids = list(first_token_ids)
        self.wants_logprobs = params.wants_logprobs
        self.generated_token_ids = list(written.token_ids)
        self.resumed_logprobs = written.sampled_logprobs
        """Log-probabilities, after the controls, of the tokens of an earlier engine."""
        self.held: dict[str, torch.Tensor] = {}
        """What a control keeps on the device between tokens, by its name; see `UsingRows.stack`."""
        self.guide: Guide | None = None
        """Set before the first step where the text must match something."""
        self._histories: dict[str, History] = {}

    def fork(self) -> RowSampler:
        """A copy that goes on without changing this one and computes no log-probabilities."""
        fork = copy.copy(self)
        fork.wants_logprobs = False
        fork.generated_token_ids = list(self.generated_token_ids)
        fork.held = {name: held.clone() for name, held in self.held.items()}
        fork.guide = None if self.guide is None else self.guide.fork()
        fork._histories = {name: history.fork() for name, history in self._histories.items()}
        return fork

    def add(self, token_id: int) -> None:
        """Take note of the token that was chosen."""
        self.generated_token_ids.append(token_id)
        for history in self._histories.values():
            history.add(token_id)

    def history(self, name: str, make: Callable[[], History]) -> History:
        """The history that a control of this name keeps of the tokens, made at its first use."""
        history = self._histories.get(name)
        if history is None:
            history = self._histories[name] = make()
            for token_id in (*self.request.prompt_token_ids, *self.generated_token_ids):
                history.add(token_id)
        return history

    @property
    def next_position(self) -> int:
        """The position in the sequence that the next token gets."""
        return len(self.request.prompt_token_ids) + len(self.generated_token_ids)
