"""Answers as JSON, written so that a large one does not hold the event loop.

An answer with log-probabilities can have a hundred megabytes. A call of the encoder holds the
interpreter's lock until it returns, so each object of a list is encoded by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.responses import Response


async def json_answer(fields: Mapping[str, Any]) -> Response:
    """The answer of a request."""
    written = []
    for part in json_parts(fields):
        written.append(part)
        await asyncio.sleep(0)
    return Response(b"".join(written), media_type="application/json")


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
