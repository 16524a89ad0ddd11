"""Records what a request has sent to its engine and received, so that another engine can continue.

The random numbers of a token depend on the seed and the position alone, and the controls on the
tokens so far. So the tokens are all that the next engine needs; the text is the one that the first
engine would have written.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gptj_demo.protocol import (
    EngineEvent,
    Expanded,
    Finished,
    PromptScored,
    Resumption,
    Started,
    Submit,
    TokenEvent,
    Written,
    beginnings,
)

MOST_DEATHS = 3
"""How many engines may end in a row without a new token for a request before it is given up."""


@dataclass(slots=True)
class _Completion:
    """`Written`, while it grows."""

    token_ids: list[int] = field(default_factory=list)
    sampled_logprobs: list[float] = field(default_factory=list)
    sum_logprob: float | None = None
    filtered_away: int = 0

    @classmethod
    def of(cls, written: Written) -> _Completion:
        """A completion that begins with `written`."""
        return cls(list(written.token_ids), list(written.sampled_logprobs))

    def written(self) -> Written:
        return Written(
            tuple(self.token_ids),
            tuple(self.sampled_logprobs),
            self.sum_logprob,
            self.filtered_away,
        )


class Progress:
    """The events of one request, from all engines that worked on it.

    `deaths` counts the engines that ended since the last new token. `cancelled` is set by the
    owner when it has asked the engine to end the request.
    """

    def __init__(self, submit: Submit) -> None:
        self.deaths = 0
        self.cancelled = False
        self.prompt_tokens = len(submit.prompt_token_ids)
        self._submit = submit
        written = beginnings(submit.params, submit.expansion)
        self._completions = {i: _Completion.of(one) for i, one in written.items()}
        self._unsent = list(self._completions)  # no engine has them at present
        self._candidates = len(written)
        self._started: float | None = None
        self._is_scored = False

    @property
    def has_started(self) -> bool:
        """Whether the request has held a slot."""
        return self._started is not None

    def add(self, event: EngineEvent, now: float) -> EngineEvent | None:
        """Record an event, at `now` in seconds; returns the event for the stream, or None."""
        match event:
            case TokenEvent(index=index, logprobs=logprobs):
                self.deaths = 0
                completion = self._completions[index]
                completion.token_ids.append(event.token_id)
                completion.filtered_away += event.filtered_away
                if logprobs is None:
                    return event
                completion.sum_logprob = (completion.sum_logprob or 0.0) + logprobs.logprob
                if logprobs.sampled_logprob is not None:
                    completion.sampled_logprobs.append(logprobs.sampled_logprob)
                # some controls need them for a resumption, even if the caller wants none
                wanted = self._submit.params.logprobs is not None
                return event if wanted else event._replace(logprobs=None)
            case Started():
                if self._started is not None:
                    return None  # another engine goes on
                self._started = now
            case Expanded():
                self.deaths = 0
            case PromptScored():
                self.deaths = 0
                self._is_scored = True
            case Finished():
                self._completions.pop(event.index, None)
        return event

    def generated(self, index: int) -> int:
        """Tokens of a completion that has not ended."""
        completion = self._completions.get(index)
        return 0 if completion is None else len(completion.token_ids)

    def suspend(self) -> None:
        """Note that the engine has ended: no engine has the completions that have not ended."""
        self._unsent = list(self._completions)

    def next_part(self, completions: int, now: float) -> Submit:
        """The message that sends the next completions to an engine, at `now` in seconds."""
        indexes, self._unsent = self._unsent[:completions], self._unsent[completions:]
        if self._started is None and len(indexes) == self._candidates:
            return self._submit
        written = {index: self._completions[index].written() for index in indexes}
        elapsed = 0.0 if self._started is None else now - self._started
        return replace(self._submit, resumption=Resumption(written, elapsed, self._is_scored))

    def drop_unsent(self) -> list[int]:
        """Drop the completions that no engine has; returns their indexes."""
        dropped, self._unsent = self._unsent, []
        return dropped
