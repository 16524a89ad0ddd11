"""Scores a continuation after several prompts, or after a prompt without each of its parts.

Prompt and continuation are tokenized separately, so the continuation has the same tokens after
every prompt and the log-probabilities can be subtracted.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from gptj_demo.client.pacing import PAGE
from gptj_demo.client.parts import PartKind, parts_of, without_each
from gptj_demo.client.prompt import encode
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.worker import Worker
from gptj_demo.control_values import make_params
from gptj_demo.protocol import Finished, GenerationRequest, PromptScored, TokenLogprobs, Visitor
from gptj_demo.texts import message

MAX_PROMPTS = 64
MAX_PARTS = 64
MAX_TOKENS_READ = 65_536
"""Limits on what one request makes the model read, so that others do not wait long."""
MOST_STREAMS = 16
MIN_SHARED_TOKENS = 32
"""Prompts that begin with fewer tokens in common are read side by side at once."""


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """The log-probability of each token of a continuation after a prompt (natural logarithms).

    `prompt_tokens` were read before it, and `truncate` dropped `dropped_tokens`; `size` is the
    continuation's length in UTF-8 bytes.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    size: int
    prompt_tokens: int
    dropped_tokens: int

    @property
    def sum_logprob(self) -> float:
        return sum(one.logprob for one in self.logprobs)

    @property
    def mean_logprob(self) -> float:
        """The mean per token."""
        return self.sum_logprob / len(self.logprobs)

    @property
    def bits_per_byte(self) -> float:
        return -self.sum_logprob / math.log(2) / self.size


class Continuation(NamedTuple):
    """A continuation as tokens; `as_generated` says that the model generated these tokens.

    `size` is its length in UTF-8 bytes.
    """

    token_ids: tuple[int, ...]
    as_generated: bool
    size: int


class LeaveOneOut(NamedTuple):
    """The parts of a prompt, and token ids of the whole prompt, then without each part in turn.

    `truncate` dropped `dropped_tokens` from the beginning of the prompt before the split.
    """

    parts: list[str]
    prompts: list[tuple[int, ...]]
    dropped_tokens: int


def shares_prefix(prompts: Sequence[Sequence[int]]) -> bool:
    """Whether to read the first prompt before the others, which can then reuse its beginning."""
    beginning = tuple(prompts[0][:MIN_SHARED_TOKENS])
    return len(beginning) == MIN_SHARED_TOKENS and any(
        tuple(prompt[:MIN_SHARED_TOKENS]) == beginning for prompt in prompts[1:]
    )


def most_parts(tokens: int) -> int:
    """The largest number of parts for a text of that many tokens, 1 or more."""
    return max(1, min(MAX_PARTS, MAX_TOKENS_READ // max(1, tokens) - 1))


# ---- tokens


async def encode_prompt(worker: Worker, text: str) -> tuple[int, ...]:
    """Token ids of a prompt; an empty one becomes the beginning-of-text token."""
    if not isinstance(text, str):
        raise RequestRefused("invalid", message("score.prompt_no_text"))
    ids = tuple(await encode(text, worker.require_ready()))
    return ids or (worker.require_ready().vocabulary.bos_token_id,)


async def encode_continuation(
    worker: Worker, text: str, generated_ids: Sequence[int] = ()
) -> Continuation:
    """The continuation's tokens: `generated_ids` if they have the same text.

    Raises `RequestRefused` for an empty continuation.
    """
    if not isinstance(text, str) or not text:
        raise RequestRefused("invalid", message("score.no_continuation"))
    ids = tuple(await encode(text, worker.require_ready(), begins=False))
    vocabulary = worker.require_ready().vocabulary
    if generated_ids and all(
        isinstance(i, int) and not isinstance(i, bool) and 0 <= i < vocabulary.size
        for i in generated_ids
    ):
        written = b"".join(map(vocabulary.bytes_of, generated_ids))
        if written == text.encode():
            return Continuation(tuple(generated_ids), True, len(written))
    return Continuation(ids, False, len(text.encode()))


def check_count(prompts: Sequence[object]) -> None:
    """Raise `RequestRefused` if there are no prompts or too many."""
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise RequestRefused(
            "invalid",
            message("score.prompts", most=MAX_PROMPTS, given=len(prompts)),
        )


def check_fits(
    worker: Worker, prompts: Sequence[Sequence[int]], continuation: Continuation, truncate: str
) -> None:
    """Raise `RequestRefused` for prompts that do not fit or take too long to read."""
    context = worker.require_ready().context_length
    length = len(continuation.token_ids)
    if length >= context:
        raise RequestRefused(
            "too_long",
            message("score.continuation_too_long", tokens=length, context=context),
        )
    longest = max(map(len, prompts)) + length
    if longest > context and truncate != "left":
        raise RequestRefused(
            "too_long",
            message("score.too_long", tokens=longest, context=context, count=longest - context),
            "truncate",
        )
    total = sum(min(context, len(prompt) + length) for prompt in prompts)
    if total > MAX_TOKENS_READ:
        raise RequestRefused(
            "too_long",
            message("score.too_much", tokens=total, most=MAX_TOKENS_READ),
        )


async def leave_out_each(
    worker: Worker, text: str, continuation: Continuation, kind: PartKind, truncate: str
) -> LeaveOneOut:
    """The prompts to score for the influence of each part of a prompt.

    Raises `RequestRefused`.
    """
    ids = await encode_prompt(worker, text)
    check_fits(worker, [ids], continuation, truncate)
    available = worker.require_ready().context_length - len(continuation.token_ids)
    dropped = max(0, len(ids) - available)
    if dropped:  # otherwise leaving a part out would let truncated words back in
        ids = ids[dropped:]
        start = (await worker.tokenize(text))[dropped].start
        text = text.encode()[start:].decode(errors="ignore")
    parts = parts_of(text, kind, most_parts(len(ids) + len(continuation.token_ids)))
    if not parts:
        raise RequestRefused("invalid", message("score.no_parts"))
    without = [await encode_prompt(worker, rest) for rest in without_each(parts)]
    return LeaveOneOut(parts, [ids, *without], dropped)


# ---- the model's answers


async def score_continuations(
    worker: Worker,
    prompts: Sequence[Sequence[int]],
    continuation: Continuation,
    *,
    visitor: Visitor,
    truncate: Any = "error",
    alternatives: int = 0,
    continues: bool = False,
) -> AsyncGenerator[tuple[int, ContinuationScore] | None, None]:
    """The continuation's score after each prompt, with the prompt's index, as they arrive.

    The engine reads the prompts together. `continues` says that the first request continues one
    that has begun. Yields None after half a second without a score. Raises `RequestRefused`, and
    `InvalidControl` for `truncate` or `alternatives`.
    """
    controls = {"max_new_tokens": 0, "echo": True, "logprobs": alternatives, "truncate": truncate}
    params = make_params(controls)
    check_fits(worker, prompts, continuation, params.truncate)
    model = worker.model
    most = MOST_STREAMS if model is None else min(MOST_STREAMS, model.max_num_seqs)
    limit = 1 if shares_prefix(prompts) else most
    waiting = deque(range(len(prompts)))
    running: dict[asyncio.Task[ContinuationScore], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                place = waiting.popleft()
                request = GenerationRequest(
                    (*prompts[place], *continuation.token_ids),
                    params,
                    visitor,
                    scored_tokens=len(continuation.token_ids),
                    continues=continues or place > 0,
                )
                scoring = _score(worker, request, continuation)
                running[asyncio.ensure_future(scoring)] = place
            done, _ = await asyncio.wait(
                running, timeout=PAGE.sign_of_life, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                yield None
            for task in done:
                place = running.pop(task)
                try:
                    score = task.result()
                except RequestRefused as refusal:
                    if refusal.kind != "queue_full" or not running:
                        raise
                    waiting.appendleft(place)  # retry once our queue has moved
                    limit = len(running)
                else:
                    limit = most if place == 0 else min(most, limit + 1)
                    yield place, score
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _score(
    worker: Worker, request: GenerationRequest, continuation: Continuation
) -> ContinuationScore:
    """The score after one prompt; raises `RequestRefused`, also if the engine failed."""
    ids = continuation.token_ids
    scored = None
    async with aclosing(worker.stream(request)) as stream:
        async for event in stream:
            if isinstance(event, PromptScored):
                scored = event
            elif isinstance(event, Finished) and scored is None:
                raise RequestRefused("unavailable", event.message)
    if scored is None:
        raise RequestRefused("unavailable", message("refused.broken"))
    logprobs = tuple(one for one in scored.logprobs[-len(ids) :] if one is not None)
    read = len(scored.token_ids) - len(ids)
    dropped = len(request.prompt) - len(scored.token_ids)
    return ContinuationScore(ids, logprobs, continuation.size, read, dropped)
