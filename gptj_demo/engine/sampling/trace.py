"""How probable tokens were: by the model itself, and after the controls.

`Trace` follows the most probable tokens of each row through the stages of the sampler and notes
which one removed them. `score` does the same for a given text, without sampling. Both queue their
results, so that the host need not wait for the device in the middle of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from gptj_demo.engine.sampling.control import Rows
from gptj_demo.engine.transfer import download
from gptj_demo.protocol import Alternative, TokenLogprobs

_SPARE = 4

LogprobsReader = Callable[[], list[TokenLogprobs]]
"""Waits for the queued copies and returns one entry for each row."""


def score(
    padded: torch.Tensor,
    vocabulary: int,
    token_ids: torch.Tensor,
    alternatives: int,
    unused: torch.Tensor | None = None,
) -> LogprobsReader:
    """The probabilities of a prompt's tokens by the model, one for each row of logits.

    `padded` is fp32 [rows, padded_vocabulary], `token_ids` [rows].
    """
    trace = Trace(padded, vocabulary, slice(None), alternatives, unused)
    return trace.queue_logprobs(token_ids, None, None, [alternatives] * len(token_ids))


def most_probable(values: torch.Tensor, count: int) -> torch.Tensor:
    """The ids of each row's `count` largest values, int64 [rows, count]; of equal ones, the lowest.

    In `topk` the order of equal values depends on the other rows.
    """
    wider = min(count + _SPARE, values.shape[1])  # equal values may stand at the end
    ids = values.topk(wider, dim=1).indices.sort(dim=1).values
    order = values.gather(1, ids).sort(dim=1, descending=True, stable=True).indices
    return ids.gather(1, order)[:, :count]


class Trace:
    """The model's most probable tokens of some rows, and the controls that removed them."""

    def __init__(
        self,
        padded: torch.Tensor,
        vocabulary: int,
        rows: Rows,
        alternatives: int,
        unused: torch.Tensor | None = None,
    ) -> None:
        self._rows = rows
        part = padded[rows]
        self._logits = part[:, :vocabulary]
        if unused is not None:  # unused ids are not alternatives
            self._logits = self._logits.index_fill(1, unused, -torch.inf)
        # over all rows of the head, as `GPTJForCausalLM` has it
        self._logprobs = part.log_softmax(dim=1)
        count = min(alternatives, vocabulary - (0 if unused is None else len(unused)))
        self._ids = most_probable(self._logits, count)  # [rows, alternatives]
        self._removed = torch.zeros_like(self._ids)
        self._names: list[str | None] = [None]

    def note(self, name: str, logits: torch.Tensor) -> None:
        """Note which tokens the control `name` has removed: those whose logits became -inf."""
        self._note(name, logits[self._rows].gather(1, self._ids) == -torch.inf)

    def note_below(self, name: str, logits: torch.Tensor, threshold: torch.Tensor) -> None:
        """Note which tokens the control `name` will remove: those below `threshold`, [rows, 1]."""
        self._note(name, logits[self._rows].gather(1, self._ids) < threshold[self._rows])

    def _note(self, name: str, gone: torch.Tensor) -> None:
        self._removed.masked_fill_(gone & (self._removed == 0), len(self._names))
        self._names.append(name)

    def queue_logprobs(
        self,
        tokens: torch.Tensor,
        scaled: torch.Tensor | None,
        greedy: torch.Tensor | None,
        wanted: Sequence[int],
    ) -> LogprobsReader:
        """Queue the log-probabilities of the chosen `tokens` of all rows.

        `scaled` are the logits after the filters. `greedy` says which rows took the most probable
        token instead; None where nothing was sampled. `wanted` is the number of alternatives that
        each traced row gets.
        """
        chosen = tokens[self._rows][:, None]
        logits = self._logits.gather(1, chosen)
        ranks = (self._logits > logits).sum(dim=1, keepdim=True) + 1
        integers = torch.cat((ranks, self._ids, self._removed), dim=1)
        numbers = [self._logprobs.gather(1, chosen), self._logprobs.gather(1, self._ids)]
        if greedy is not None:
            # a greedy row's distribution is all on one token
            certain = torch.zeros_like(logits)
            others = torch.where(self._ids == chosen, 0.0, -torch.inf)
            if scaled is not None:
                logprobs = scaled[self._rows].log_softmax(dim=1)
                is_greedy = greedy[self._rows][:, None]
                certain = torch.where(is_greedy, certain, logprobs.gather(1, chosen))
                others = torch.where(is_greedy, others, logprobs.gather(1, self._ids))
            numbers += [certain, others]
        read_integers, read_numbers = download(integers), download(torch.cat(numbers, dim=1))
        was_sampled = greedy is not None

        def read() -> list[TokenLogprobs]:
            rows = zip(read_integers(), read_numbers(), wanted, strict=True)
            return [self._entry(*row, was_sampled) for row in rows]

        return read

    def _entry(
        self, integers: list[int], numbers: list[float], wanted: int, was_sampled: bool
    ) -> TokenLogprobs:
        count = self._ids.shape[1]
        rank, ids, removed = integers[0], integers[1 : 1 + count], integers[1 + count :]
        own, others = numbers[0], numbers[1 : 1 + count]
        if not was_sampled:
            alternatives = (
                Alternative(token, logprob, None, None)
                for token, logprob in zip(ids[:wanted], others, strict=False)
            )
            return TokenLogprobs(own, None, rank, tuple(alternatives))
        after, after_others = numbers[1 + count], numbers[2 + count :]
        listed = []
        for place in range(min(wanted, count)):
            left: float | None = after_others[place]
            name = None
            if left == -math.inf:
                # if no filter removed it, greedy decoding did
                left, name = None, self._names[removed[place]] or "temperature"
            listed.append(Alternative(ids[place], others[place], left, name))
        return TokenLogprobs(own, after, rank, tuple(listed))
