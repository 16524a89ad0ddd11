"""Sends a request's events to a visitor in small batches, at a pace the page can show."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from gptj_demo.client import PlacedPrompt, RequestRefused, Stream, Worker, place_prompt
from gptj_demo.client.backends.base import LeaseState
from gptj_demo.client.pacing import PAGE
from gptj_demo.control_values import InvalidControl, make_params, read_written
from gptj_demo.protocol import (
    Drafting,
    Finished,
    Passage,
    PromptScored,
    Reconnecting,
    Started,
    StreamEvent,
    TokenEvent,
    TokenLogprobs,
    Waiting,
)
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.texts import message
from gptj_demo.ui.grid_errors import InvalidGrid
from gptj_demo.ui.tokens import CharacterCount, healed_length, pack_score, pack_token

logger = logging.getLogger(__name__)

BROKEN = message("refused.broken")
NEXT = 8
"""A request with fewer requests ahead may start at any moment: the engine is sent more requests
than it has slots."""


async def batches(worker: Worker, stream: Stream) -> AsyncIterator[list[StreamEvent]]:
    """Yield the events of `stream` in batches, until the last event.

    After half a second without events it yields an empty batch, so that the caller can send
    something: Gradio only then notices that the visitor has left. The caller closes `stream`.
    Raises `RequestRefused`.
    """
    while True:
        events = await stream.drain(timeout=PAGE.sign_of_life)
        yield events
        if stream.done:
            return
        if not events or _begins(events[-1]):
            continue  # nothing to pace, or the first words come next: do not delay them
        await asyncio.sleep(PAGE.pause(worker.streams_running + worker.streams_waiting))


def _begins(event: StreamEvent) -> bool:
    """Whether a request has just started, or is one of the next to start."""
    return isinstance(event, Started) or (isinstance(event, Waiting) and event.ahead < NEXT)


def text_of(events: list[StreamEvent], index: int = 0) -> str:
    """The text that a batch adds to completion `index`."""
    return "".join(getattr(e, "text", "") for e in events if getattr(e, "index", None) == index)


def finished_of(events: list[StreamEvent], index: int = 0) -> Finished | None:
    """The end of completion `index`, if the batch has it."""
    ends = (e for e in events if isinstance(e, Finished) and e.index == index)
    return next(ends, None)


def describe_token(
    worker: Worker, token_id: int, logprobs: TokenLogprobs | None, filtered_away: bool = False
) -> dict[str, Any]:
    """A token and its probabilities as JSON for page and API; see `TokenLogprobs`."""
    described: dict[str, Any] = {"token_id": token_id, "text": worker.token_text(token_id)}
    if filtered_away:
        described["filtered_away"] = True
    if logprobs is not None:
        described |= {
            "logprob": _round(logprobs.logprob),
            "sampled_logprob": _round(logprobs.sampled_logprob),
            "rank": logprobs.rank,
            "alternatives": [
                {
                    "token_id": other.token_id,
                    "text": worker.token_text(other.token_id),
                    "logprob": _round(other.logprob),
                    "sampled_logprob": _round(other.sampled_logprob),
                    "removed_by": other.removed_by,
                }
                for other in logprobs.alternatives
            ],
        }
    return described


def describe_start(worker: Worker, started: Started, stream: Stream) -> dict[str, Any]:
    """The start of a request as JSON for page and API; see `Started`."""
    healed = started.healed_token_id
    return {
        "prompt_tokens": started.prompt_tokens,
        "dropped_tokens": started.dropped_tokens,
        "healed": None if healed is None else worker.token_text(healed),
        "n": stream.request.params.n,
        "candidates": stream.request.params.candidates,
        "seed": stream.seed,
    }


def describe_event(worker: Worker, event: TokenEvent) -> dict[str, Any]:
    """A generated token; see `describe_token`."""
    return describe_token(worker, event.token_id, event.logprobs, event.filtered_away)


def describe_score(worker: Worker, scored: PromptScored) -> dict[str, Any]:
    """The prompt's score as JSON for page and API; see `PromptScored`."""
    return {
        "sum_logprob": _round(scored.sum_logprob),
        "perplexity": _round(scored.perplexity),
        "bits_per_byte": _round(scored.bits_per_byte),
        "tokens": [
            describe_token(worker, token_id, logprobs)
            for token_id, logprobs in zip(scored.token_ids, scored.logprobs, strict=True)
        ],
    }


def describe_finished(finished: Finished) -> dict[str, Any]:
    """The end of a completion as JSON for page and API; see `Finished`."""
    return {
        **finished.message.described(),
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "seed": finished.seed,
        "mean_logprob": _round(finished.mean_logprob),
    }


def tokens_a_pass(finished: Finished) -> float:
    """Tokens per forward pass of the model; 1 if no drafted token was accepted."""
    accepted = sum(one.accepted for one in finished.drafts)
    passes = finished.completion_tokens - accepted
    return round(finished.completion_tokens / max(1, passes), 2)


def _round(value: float | None) -> float | None:
    """Rounded to six places; None for infinities and NaN, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else round(value, 6)


def read_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `make_params` from the values of the page's controls.

    Lists are the lines of a text field; optional numbers are text too. Raises `InvalidControl`.
    """
    given = dict(values)
    for control in CONTROLS:
        value = given.get(control.name)
        if isinstance(value, str) and (control.is_list or control.kind == "optional_integer"):
            given[control.name] = read_written(control, value.split("\n"))
    return given


def read_controls(values: Mapping[str, Any]) -> SamplingParams:
    """`SamplingParams` from the values of the page's controls; raises `InvalidControl`."""
    return make_params(read_fields(values))


class Rate:
    """Tokens a second, measured from the first token."""

    def __init__(self) -> None:
        self.tokens = 0
        self._first: float | None = None

    def add(self, tokens: int) -> None:
        """Count tokens that arrived just now."""
        if tokens and self._first is None:
            self._first = time.monotonic()
            self._tokens_at_first = tokens
        self.tokens += tokens

    @property
    def per_second(self) -> float | None:
        """Tokens a second, None until it can be measured."""
        if self._first is None or self.tokens == self._tokens_at_first:
            return None
        return (self.tokens - self._tokens_at_first) / max(1e-3, time.monotonic() - self._first)


def placed(worker: Worker, stream: Stream) -> PlacedPrompt:
    """The tokens of a started request, with their positions in its prompt."""
    vocabulary = worker.require_ready().vocabulary
    return place_prompt(vocabulary, stream.request.prompt, stream.submitted)


async def records(worker: Worker, stream: Stream, params: SamplingParams) -> AsyncIterator[str]:
    """The lines that each batch of events adds to the log, one JSON record a line."""
    rate = Rate()
    written: Counter[int] = Counter()  # tokens of each completion
    alone: Counter[int] = Counter()  # tokens for which the controls left no candidate
    counts: defaultdict[int, CharacterCount] = defaultdict(CharacterCount)
    lease: LeaseState | None = None
    async for events in batches(worker, stream):
        lines = ""
        if (held := worker.lease(stream.request.visitor)) is not None and held != lease:
            lease = held
            lines += record("lease", state=held.state, seconds_left=held.seconds_left)
        tokens: defaultdict[int, list[Any]] = defaultdict(list)
        changed: dict[int, None] = {}  # completions with events in this batch
        drafting = None
        marked: list[str] = []  # lines that follow the text
        for event in events:
            match event:
                case Waiting():
                    lines += record("waiting", ahead=event.ahead)
                case Reconnecting():
                    lines += record("reconnecting")
                case Started():
                    vocabulary = worker.require_ready().vocabulary
                    healed = event.healed_token_id
                    back = 0 if healed is None else healed_length(placed(worker, stream))
                    described = describe_start(worker, event, stream)
                    lines += record("started", **described, healed_length=back)
                    if healed is not None:
                        skip = len(vocabulary.bytes_of(healed))
                        counts = defaultdict(partial(CharacterCount, skip))
                case PromptScored():
                    vocabulary = worker.require_ready().vocabulary
                    score = pack_score(vocabulary, event, placed(worker, stream))
                    lines += record("scored", **score)
                case Drafting():
                    drafting = event
                case TokenEvent():
                    changed[event.index] = None
                    written[event.index] += 1
                    alone[event.index] += event.filtered_away
                    if event.logprobs is not None:
                        vocabulary = worker.require_ready().vocabulary
                        length = counts[event.index].add(vocabulary.bytes_of(event.token_id))
                        tokens[event.index].append(
                            pack_token(
                                vocabulary,
                                event.token_id,
                                length,
                                event.logprobs,
                                event.filtered_away,
                            )
                        )
                case Passage():
                    changed[event.index] = None
                    if event.untokened and params.logprobs is not None:
                        if before := tokens.pop(event.index, None):
                            lines += record("tokens", index=event.index, tokens=before)
                        lines += record("skipped", index=event.index, length=event.untokened)
                    if event.kind == "marked":
                        marked.append(record("marked", index=event.index, text=event.sentence))
                case Finished():
                    changed[event.index] = None
        if drafting is not None:
            rate.add(drafting.tokens - rate.tokens)
            lines += record("drafting", tokens=rate.tokens, rate=rate.per_second)
        if params.candidates == params.n:
            rate.add(written.total() - rate.tokens)
        for index in changed:
            lines += record(
                "text",
                index=index,
                text=text_of(events, index),
                tokens=written[index],
                total=rate.tokens,
                rate=rate.per_second,
            )
            if tokens[index]:
                lines += record("tokens", index=index, tokens=tokens[index])
        lines += "".join(marked)
        ends = [finished for index in changed if (finished := finished_of(events, index))]
        for finished in ends:
            lines += record(
                "finished",
                index=finished.index,
                reason=finished.reason,
                **describe_finished(finished),
                filtered_away=alone[finished.index],
                last=stream.done and finished is ends[-1],
                total=rate.tokens,
                rate=rate.per_second,
                per_pass=tokens_a_pass(finished),
                drafts=finished.drafts,
                tokens=_end_token(worker, finished),
            )
        yield lines or "\n"  # an empty line is a keep-alive


def _end_token(worker: Worker, finished: Finished) -> list[Any]:
    """The token that ended the text, if probabilities were requested."""
    if finished.end_token_id is None or finished.end_logprobs is None:
        return []
    vocabulary = worker.require_ready().vocabulary
    return [pack_token(vocabulary, finished.end_token_id, 0, finished.end_logprobs)]


def record(event: str, **fields: Any) -> str:
    """A line of a log."""
    return json.dumps({"event": event, **fields}, separators=(",", ":")) + "\n"


def refused(error: Exception) -> str:
    """The log line that says why a request was refused; our own errors are logged as well."""
    match error:
        case InvalidControl():
            said = error.message.described()
            return record("refused", kind="control", control=error.name, **said)
        case RequestRefused():
            kind, control = error.kind, error.control
            return record("refused", kind=kind, control=control, **error.message.described())
        case InvalidGrid():
            return record("refused", field=error.field, **error.message.described())
        case _:
            logger.error("a request of the page failed", exc_info=error)
            return record("refused", kind="error", **BROKEN.described())
