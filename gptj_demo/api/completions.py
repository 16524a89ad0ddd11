"""Turns a request's streams into OpenAI's completions, whole or as the chunks of a stream."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gptj_demo.api.choices import ChoiceWriter, Piece, Shape
from gptj_demo.api.errors import ApiError, of_refusal
from gptj_demo.api.timings import Timings
from gptj_demo.client import RequestRefused, Stream, Worker, place_prompt
from gptj_demo.client.pacing import API
from gptj_demo.client.prompt import check_request, most_used
from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    Passage,
    PromptScored,
    Reconnecting,
    Started,
    StreamEvent,
    TokenEvent,
    Visitor,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.tokenization import Vocabulary

POLL_SECONDS = 0.02  # for several prompts at once
MOST_WAITING = 8
"""Prompts of a request that are in the queue at a time; the others enter as these start."""


@dataclass(slots=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class _Prompt:
    """One prompt of a request: its choices, and its stream once it has entered the queue."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        request: GenerationRequest,
        first_index: int,
        shape: Shape,
        timings: Timings,
    ) -> None:
        self.request = request
        self.stream: Stream | None = None
        self.writers: list[ChoiceWriter] = []
        self.is_paused = False  # since its engine ended, until the caller gets a keep-alive
        self._vocabulary = vocabulary
        self._first_index = first_index
        self._shape = shape
        self._timings = timings
        self._drafted = self._read = 0
        self._written: Counter[int] = Counter()  # by choice
        self._cached: int | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue and has no slot yet."""
        return self.stream is not None and not self.writers and not self.stream.done

    @property
    def is_done(self) -> bool:
        """Whether all of its choices have ended."""
        return self.stream is not None and self.stream.done

    @property
    def usage(self) -> tuple[int, int, int]:
        """Prompt tokens, generated tokens, cached prompt tokens."""
        return self._read, max(self._drafted, self._written.total()), self._cached or 0

    def take(self, event: StreamEvent) -> None:
        """Pass an event to its choice; raises `ApiError` if the generation failed."""
        self._timings.note(event)
        match event:
            case Started():
                healed = event.healed_token_id
                taken = b"" if healed is None else self._vocabulary.bytes_of(healed)
                self._read = event.prompt_tokens
                assert self.stream is not None
                prompt = self.request.prompt
                text = prompt if isinstance(prompt, str) else _text_of(self._vocabulary, prompt)
                placed = place_prompt(self._vocabulary, prompt, self.stream.submitted)
                self.writers = [
                    ChoiceWriter(
                        self._vocabulary,
                        self._first_index + index,
                        text,
                        placed,
                        self._shape,
                        taken,
                    )
                    for index in range(self.request.params.n)
                ]
            case Reconnecting():
                self.is_paused = True
            case PromptScored():
                for writer in self.writers:
                    writer.score(event)
            case Drafting():
                self._drafted = event.tokens
            case TokenEvent():
                self._written[event.index] += 1
                self.writers[event.index].add(event)
            case Passage():
                self.writers[event.index].add_passage(event)
            case Finished():
                self._finish(event)

    def _finish(self, finished: Finished) -> None:
        if finished.reason == "unmet":
            raise ApiError(422, str(finished.message), code="match_unmet")
        if finished.reason == "error":
            raise ApiError(500, str(finished.message), code="generation_failed")
        if finished.reason == "cancelled":
            raise ApiError(503, "The playground is shutting down.", code="cancelled")
        self._written[finished.index] = finished.completion_tokens
        cached = finished.own_cached_tokens
        self._cached = cached if self._cached is None else min(self._cached, cached)
        self.writers[finished.index].finish(finished)


class Completions:
    """All prompts of one request. Closing it cancels the unfinished ones and ends `pieces`.

    Only a few of them are in the queue at a time, so a request with many prompts needs only one
    free place in it and leaves room for other requests.
    """

    def __init__(
        self,
        worker: Worker,
        prompts: Sequence[str | tuple[int, ...]],
        params: SamplingParams,
        shape: Shape,
        visitor: Visitor,
        scored_tokens: Sequence[int | None] | None = None,
        *,
        first_alone: bool = False,
        logprobs_bytes: int = 0,
    ) -> None:
        """`scored_tokens` has one value for each prompt, as in `GenerationRequest`.

        With `first_alone`, the others enter the queue after the first prompt has been read, so that
        they can reuse what they have in common with it. `logprobs_bytes` is what the
        log-probabilities take at most; see `answer_memory`.
        """
        self._first_alone = first_alone
        self._is_closed = False
        self.logprobs_bytes = logprobs_bytes
        self.id = f"cmpl-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self._worker = worker
        self._visitor = visitor
        self._shape = shape
        self._timings = Timings()
        vocabulary = worker.vocabulary
        if vocabulary is None:
            raise ApiError(503, str(worker.status.detail), code="model_unavailable")
        self._prompts = [
            _Prompt(
                vocabulary,
                GenerationRequest(
                    prompt, params, visitor, scored_tokens=scored, continues=number > 0
                ),
                number * params.n,
                shape,
                self._timings,
            )
            for number, (prompt, scored) in enumerate(
                zip(prompts, scored_tokens or [None] * len(prompts), strict=True)
            )
        ]
        self._queued = deque(self._prompts)  # those that have not entered the worker's queue

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        usage = Usage()
        for prompt in self._prompts:
            read, written, cached = prompt.usage
            usage.prompt_tokens += read
            usage.completion_tokens += written
            usage.cached_tokens += cached
        return usage

    @property
    def texts(self) -> int:
        """How many texts the answer has."""
        return sum(prompt.request.params.n for prompt in self._prompts)

    @property
    def most_tokens(self) -> int:
        """The most tokens that can be generated, including those of all candidates."""
        params = [prompt.request.params for prompt in self._prompts]
        return sum(one.candidates * one.max_new_tokens for one in params)

    async def count_most(self, enough: int) -> int:
        """The most tokens that can be read and generated; raises `ApiError`.

        The count stops once it is above `enough`, because tokenizing many prompts takes long.
        """
        ready, most = self._worker.require_ready(), 0
        try:
            for prompt in self._prompts:
                most += await most_used(prompt.request, ready)
                if most > enough:
                    break
        except RequestRefused as refusal:
            raise of_refusal(refusal) from None
        return most

    @property
    def prompts_done(self) -> int:
        """How many prompts have ended, with all of their choices."""
        return sum(prompt.is_done for prompt in self._prompts)

    @property
    def timings(self) -> dict[str, Any]:
        """The times so far, as JSON."""
        usage = self.usage
        return self._timings.json(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)

    async def begin(self) -> None:
        """Put the first prompts in the queue; raises `ApiError` if any prompt is refused."""
        await self._enter()
        for prompt in list(self._queued):
            await asyncio.sleep(0)  # the checks of many long prompts take a while
            await self._check(prompt)

    async def _check(self, prompt: _Prompt) -> None:
        """Raise `ApiError` if the worker would refuse a prompt that is not in the queue yet."""
        if (ready := self._worker.ready) is not None:
            try:
                await check_request(prompt.request, ready)
            except RequestRefused as refusal:
                raise self._refused(prompt, refusal) from None

    def _refused(self, prompt: _Prompt, refusal: RequestRefused) -> ApiError:
        """The response to a prompt that the worker refuses, with its place among several."""
        error = of_refusal(refusal)
        if error.param == "prompt" and len(self._prompts) > 1:
            error.message = f"Prompt {self._prompts.index(prompt)}: {error.message}"
        return error

    async def _enter(self) -> None:
        """Put further prompts in the queue, where it has room; raises `ApiError`."""
        waiting = sum(prompt.is_waiting for prompt in self._prompts)
        while self._queued and waiting < MOST_WAITING and not self._is_closed:
            is_first = len(self._queued) == len(self._prompts)
            if not (is_first or self._worker.has_place(self._visitor)):
                return
            if self._first_alone and not (is_first or self._prompts[0].is_done):
                return
            prompt = self._queued[0]
            prompt.stream = self._worker.stream(prompt.request)
            try:
                events = await prompt.stream.drain()
            except RequestRefused as refusal:
                if refusal.kind != "queue_full" or is_first:
                    raise self._refused(prompt, refusal) from None
                prompt.stream = None  # another thread's request took the place
                return
            self._queued.popleft()
            for event in events:
                prompt.take(event)
            waiting += 1

    async def pieces(self) -> AsyncGenerator[list[Piece], None]:
        """Lists of new pieces until all choices have ended; an empty list is a keep-alive."""
        alive = time.monotonic()
        while not self._is_closed and (
            open_prompts := [prompt for prompt in self._prompts if not prompt.is_done]
        ):
            await self._advance(open_prompts)
            pieces = [
                piece
                for prompt in self._prompts
                for writer in prompt.writers
                if (piece := writer.take()) is not None
            ]
            now = time.monotonic()
            is_paused = any(prompt.is_paused for prompt in open_prompts)
            for prompt in open_prompts:
                prompt.is_paused = False
            if pieces or is_paused or now - alive >= API.sign_of_life:
                alive = now
                yield pieces
            if pieces and not all(prompt.is_done for prompt in self._prompts):
                await asyncio.sleep(API.pause(self._worker.streams_running))

    async def _advance(self, prompts: list[_Prompt]) -> None:
        """Take the events that have arrived, waiting briefly for the first."""
        try:
            await self._enter()
            if len(prompts) == 1 and (stream := prompts[0].stream) is not None:
                for event in await stream.drain(API.sign_of_life):
                    prompts[0].take(event)
                return
            for prompt in prompts:
                if prompt.stream is not None and prompt.stream.has_events:
                    for event in await prompt.stream.drain():
                        prompt.take(event)
                    await asyncio.sleep(0)  # the log-probabilities of a long prompt take a while
            await asyncio.sleep(POLL_SECONDS)
        except RequestRefused as refusal:
            raise of_refusal(refusal) from None
        except ApiError as error:
            if error.code == "generation_failed" and self._worker.status.state != "ready":
                raise ApiError(503, error.message, code="model_unavailable") from None
            raise

    async def aclose(self) -> None:
        self._is_closed = True
        for prompt in self._prompts:
            if prompt.stream is not None:
                await prompt.stream.aclose()

    def choices(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        """Pieces as JSON values."""
        return [piece.choice(self._shape) for piece in pieces]

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """A piece as JSON values for a stream: with log-probabilities, one for each token."""
        return self.choices([piece] if self._shape.logprobs is None else piece.by_token())

    async def whole(
        self, report: Callable[[], Awaitable[None]] | None = None
    ) -> list[dict[str, Any]]:
        """All choices, once they have ended; `report` is called as tokens arrive."""
        whole: dict[int, Piece] = {}
        async for pieces in self.pieces():
            if report is not None:
                await report()
            for piece in pieces:
                if piece.index in whole:
                    whole[piece.index].add(piece)
                else:
                    whole[piece.index] = piece
        return self.choices([whole[index] for index in sorted(whole)])


def _text_of(vocabulary: Vocabulary, token_ids: tuple[int, ...]) -> str:
    known = (i for i in token_ids if i < vocabulary.size)
    return b"".join(map(vocabulary.bytes_of, known)).decode(errors="replace")
