"""Answers as JSON, written so that a large one does not hold the event loop.

An answer with log-probabilities can have a hundred megabytes. A call of the encoder holds the
interpreter's lock until it returns, so each object of a list is encoded by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PART_BYTES = 2**18


class JsonAnswer(Response):
    """A JSON text whose parts are sent as the caller reads them.

    `resources` are released once all of it is sent or the caller has left. If it were sent in one
    piece, uvicorn would copy it, and keep it for a slow caller after the request has ended.
    """

    media_type = "application/json"

    def __init__(self, content: bytes, resources: AsyncExitStack) -> None:
        super().__init__(content)
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            for begin in range(0, len(self.body), PART_BYTES):
                end = begin + PART_BYTES
                body, more = bytes(self.body[begin:end]), end < len(self.body)
                await send({"type": "http.response.body", "body": body, "more_body": more})


async def json_answer(
    fields: Mapping[str, Any], resources: AsyncExitStack | None = None
) -> Response:
    """The answer of a request; it takes over the `resources`, to release them once it is sent."""
    written = []
    for part in json_parts(fields):
        written.append(part)
        await asyncio.sleep(0)
    taken = AsyncExitStack() if resources is None else resources.pop_all()
    return JsonAnswer(b"".join(written), taken)


def json_parts(fields: Mapping[str, Any]) -> Iterator[bytes]:
    """The JSON of an object, in parts: one for each field, and one for each object of a list."""
    before = b"{"
    for name, value in fields.items():
        yield before + orjson.dumps(name) + b":"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for number, one in enumerate(value):
                yield (b"," if number else b"[") + orjson.dumps(one)
            yield b"]"
        else:
            yield orjson.dumps(value)
        before = b","
    yield b"}" if fields else b"{}"
