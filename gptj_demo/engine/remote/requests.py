"""Runs requests on a server: a stream for each completion, and the handling of errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gptj_demo.engine.remote.bodies import Bodies, can_continue
from gptj_demo.engine.remote.completion import Completion
from gptj_demo.engine.remote.reading import ChoiceReader, Tokens, read_prompt
from gptj_demo.engine.remote.server import Busy, Json, NoAnswer, NoEntry, Rejected, Server
from gptj_demo.engine.scored_texts import first_scored
from gptj_demo.protocol import EngineEvent, Finished, Started, StepEvents, Submit, beginnings
from gptj_demo.returned import Lapsed, Lost, RefusalKind
from gptj_demo.texts import Message, message

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
"""How long requests to a busy server are repeated."""
LONGEST_PAUSE_SECONDS = 15.0


@dataclass(slots=True)
class _Request:
    """A request with its completions that have not ended, and their streams, by index."""

    submit: Submit
    began: float | None = None
    """When it first held a slot, in seconds of the monotonic clock."""
    completions: dict[int, Completion] = field(default_factory=dict)
    streams: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    scoring: asyncio.Task[None] | None = None
    """Gets the probabilities of the prompt, which come before the first token."""


class Requests:
    """All requests that the server has; `send` takes messages for the web process.

    `on_lost` is called when the server no longer answers. Lives in one event loop.
    """

    def __init__(
        self,
        server: Server,
        bodies: Bodies,
        tokens: Tokens,
        context_length: int,
        send: Callable[[object], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._server, self._bodies, self._tokens = server, bodies, tokens
        self._context = context_length
        self._send, self._on_lost = send, on_lost
        self._requests: dict[int, _Request] = {}
        self._events: list[EngineEvent] = []

    def submit(self, submit: Submit) -> None:
        """Ask for the completions of a request, or for further ones of it."""
        resumption = submit.resumption
        written = beginnings(submit.params, None) if resumption is None else resumption.written
        request = self._requests.setdefault(submit.request_id, _Request(submit))
        for index, so_far in written.items():
            request.completions[index] = Completion(
                submit,
                index,
                so_far,
                self._tokens.table,
                self._tokens.vocabulary.eos_token_ids,
                self._context,
            )
            write = self._write(request, submit, index)
            request.streams[index] = asyncio.get_running_loop().create_task(write)

    def cancel(self, request_id: int) -> None:
        """End a request wherever it is; its streams are closed, which ends the server's work."""
        request = self._requests.get(request_id)
        if request is not None:
            for completion in self._drop(request):
                self._tell(completion.finish("cancelled", message("end.cancelled")))

    def close(self) -> None:
        """Close all streams."""
        for request in list(self._requests.values()):
            self._drop(request)

    async def _write(self, request: _Request, submit: Submit, index: int) -> None:
        """Request a completion from the server, and pass on its events."""
        completion = request.completions[index]
        try:
            if first_scored(submit):
                await self._scored(request, submit)
            if submit.params.max_new_tokens == 0:
                read = message("end.read", count=len(submit.prompt_token_ids))
                self._end(request, completion.finish("length", read))
            elif not can_continue(submit, completion):
                self._start(request)
                self._end(request, completion.finish("error", message("end.match_interrupted")))
            else:
                await self._stream(request, submit, completion)
        except Rejected as error:
            self._fail(request, completion, "invalid", message("refused.by_server", why=str(error)))
        except NoEntry as error:
            self._fail(request, completion, "unavailable", message("refused.key", why=str(error)))
        except Busy as error:
            self._fail(request, completion, "queue_full", message("refused.busy", why=str(error)))
        except NoAnswer as error:
            await self._on_no_answer(request, error)
        except Exception:  # after a bug here, the stream must still end
            logger.exception("a completion of another server failed")
            self._fail(request, completion, "unavailable", message("refused.broken"))

    async def _scored(self, request: _Request, submit: Submit) -> None:
        """Wait until the prompt's probabilities have been passed on, once for all completions."""
        if request.scoring is None:
            request.scoring = asyncio.get_running_loop().create_task(self._score(request, submit))
        await asyncio.shield(request.scoring)  # others may wait for it too

    async def _score(self, request: _Request, submit: Submit) -> None:
        alternatives = submit.params.logprobs or 0
        body = self._bodies.prompt_scores(submit, alternatives)
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = await self._server.complete(body)
                break
            except Busy as busy:
                await _pause(busy, end)
        self._start(request)
        scored = read_prompt(
            submit.request_id,
            submit.prompt_token_ids,
            (answer.get("choices") or [{}])[0],
            alternatives,
            first_scored(submit),
            self._tokens,
        )
        self._tell(scored)

    async def _stream(self, request: _Request, submit: Submit, completion: Completion) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            body = self._bodies.completion(submit, completion)
            try:
                await self._read(request, submit, completion, body)
                return
            except Busy as busy:
                await _pause(busy, end)

    async def _read(
        self, request: _Request, submit: Submit, completion: Completion, body: Json
    ) -> None:
        params = submit.params
        alternatives = (params.logprobs or 0) if completion.wants_logprobs else None
        reader = ChoiceReader(self._tokens, alternatives)
        async with self._server.stream(body) as events:
            began = self._start(request)
            async for event in events:
                for choice in event.get("choices") or ():
                    for token_id, logprobs in reader.read(choice):
                        elapsed = time.monotonic() - began
                        for made in completion.add(token_id, logprobs, elapsed):
                            if isinstance(made, Finished):
                                self._end(request, made)
                                return
                            self._tell(made)
                    if reason := choice.get("finish_reason"):
                        self._end(request, completion.end(str(reason)))
                        return
        raise NoAnswer("the server ended a stream in the middle")

    def _start(self, request: _Request) -> float:
        """Note that the server has taken the request; returns when it first did."""
        if request.began is None:
            submit = request.submit
            elapsed = 0.0 if submit.resumption is None else submit.resumption.elapsed
            request.began = time.monotonic() - elapsed
            read = len(submit.prompt_token_ids)
            self._tell(Started(submit.request_id, read, submit.dropped_tokens))
        return request.began

    async def _on_no_answer(self, request: _Request, error: NoAnswer) -> None:
        """Have the request sent again if the server still answers; else report that it is lost."""
        try:
            await self._server.get("/models")
        except NoAnswer:
            self._on_lost(str(error))
            return
        except (Busy, NoEntry, Rejected):
            pass  # it answers
        self._drop(request)
        why = message("end.server_failed", why=str(error))
        self._send_now(Lapsed((request.submit.request_id,), why, False))

    def _fail(
        self, request: _Request, completion: Completion, kind: RefusalKind, why: Message
    ) -> None:
        """End a completion with a message, or refuse the request if it has not started."""
        if request.began is not None:
            self._end(request, completion.finish("error", why))
        elif self._drop(request):
            self._send_now(Lost((request.submit.request_id,), kind, why))

    def _end(self, request: _Request, finished: Finished) -> None:
        """Pass on the last event of a completion."""
        index = finished.index
        request.completions.pop(index, None)
        request.streams.pop(index, None)
        if not request.completions:
            self._requests.pop(request.submit.request_id, None)
        self._tell(finished)

    def _drop(self, request: _Request) -> list[Completion]:
        """Drop a request; returns its completions that had not ended."""
        self._requests.pop(request.submit.request_id, None)
        ended = list(request.completions.values())
        request.completions.clear()
        for stream in request.streams.values():
            if stream is not asyncio.current_task():
                stream.cancel()
        request.streams.clear()
        if request.scoring is not None:
            request.scoring.cancel()
        return ended

    def _tell(self, event: EngineEvent) -> None:
        """Pass on an event, together with those of the same iteration of the event loop."""
        if not self._events:
            asyncio.get_running_loop().call_soon(self._flush)
        self._events.append(event)

    def _flush(self) -> None:
        events, self._events = self._events, []
        if events:
            self._send(StepEvents(tuple(events)))

    def _send_now(self, sent: object) -> None:
        self._flush()  # earlier events first
        self._send(sent)


async def _pause(busy: Busy, end: float) -> None:
    """Wait as long as a busy server wants; raises the error again at `end`."""
    if time.monotonic() >= end:
        raise busy
    await asyncio.sleep(min(busy.seconds, LONGEST_PAUSE_SECONDS))
