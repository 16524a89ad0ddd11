"""Responses that end when the caller disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gptj_demo.api.completions import Completions
from gptj_demo.api.errors import FAILED, ApiError

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"

Result = TypeVar("Result")


class CallerLeft(Exception):
    """The caller closed the connection."""


async def unless_caller_leaves(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`; if the caller disconnects first, cancels it and raises `CallerLeft`."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_leaving(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerLeft
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
            with contextlib.suppress(BaseException):
                await task


async def _leaving(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def encode(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return (
        b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
    )


class EventStream(StreamingResponse):
    """Server-sent events, the last one an error if `events` raises.

    `resources` are released when the response ends for any reason.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], resources: AsyncExitStack) -> None:
        headers = {"Cache-Control": "no-cache"}
        super().__init__(_or_error(events), media_type="text/event-stream", headers=headers)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().stream_response(send)


async def _or_error(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    except ApiError as error:
        yield encode(error.body)
    except Exception:
        logger.exception("a stream of the API failed")
        yield encode(FAILED.body)


async def events(
    completions: Completions,
    envelope: Callable[..., dict[str, Any]],
    *,
    include_usage: bool,
    continuous_usage: bool,
    timings: bool,
) -> AsyncGenerator[bytes, None]:
    """The stream's events: pieces as they arrive, then the usage if requested, then the end.

    With `continuous_usage` the pieces have the usage so far, else with `include_usage` null.
    With `timings` the last piece of each choice has the times so far.
    """

    def usage() -> dict[str, Any]:
        if continuous_usage:
            return {"usage": completions.usage.json()}
        return {"usage": None} if include_usage else {}

    async with aclosing(completions.pieces()) as batches:
        async for pieces in batches:
            if not pieces:
                yield KEEP_ALIVE
            for piece in pieces:
                for choice in completions.chunks(piece):
                    is_last = timings and choice["finish_reason"] is not None
                    times = {"timings": completions.timings} if is_last else {}
                    yield encode(envelope(choices=[choice], **usage(), **times))
                await asyncio.sleep(0)  # an echoed prompt has a chunk a token
    if include_usage:
        yield encode(envelope(choices=[], usage=completions.usage.json()))
    yield DONE
