"""The HTTP client of a completions server: answers, streams and errors."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any

import httpx

from gptj_demo.texts import first_line

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0
"""Seconds to wait for the next part of an answer. A long prompt can wait behind other prompts.

Also for the list of models: a server with one thread answers nothing while it reads a prompt.
"""
MOST_LINE_BYTES = 32 * 2**20
"""The longest line of a stream; a line holds one event."""
MOST_CHARACTERS = 300
"""The longest quotation of a server's error message."""
RETRY_SECONDS = 2.0

NO_ENTRY = (401, 403)
BUSY = (429, 503)
GATEWAY = (502, 504)
"""Status codes of a proxy whose server does not answer."""

Json = dict[str, Any]


class ServerError(Exception):
    """The server did not do what it was asked to; the message is for people."""


class NoAnswer(ServerError):
    """The server cannot be reached, or closed the connection too early."""


class Busy(ServerError):
    """The server is busy: the request should be repeated after `seconds`."""

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


class NoEntry(ServerError):
    """The server refuses the key."""


class Rejected(ServerError):
    """The server refuses the request, and would do so again."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


class Server:
    """A completions server at `url`, which ends in the API's version; an async context manager.

    The key is sent in a header and appears in no message.
    """

    def __init__(self, url: str, key: str | None, connections: int) -> None:
        self._url = httpx.URL(url.rstrip("/"))
        self._key = key
        self.name = self._url.netloc.decode()
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=connections),
        )

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> Json:
        """The object at a path of the API; raises `ServerError`."""
        return await self._whole("GET", f"{self._url}{path}", None)

    async def get_beside(self, path: str) -> Json | None:
        """The object at a path outside of the API's version, None where there is none.

        A gateway can close such paths to a key that it accepts for the API.
        """
        root = str(self._url).removesuffix("/v1")
        try:
            return await self._whole("GET", root + path, None)
        except (NoEntry, Rejected):
            return None

    async def complete(self, body: Mapping[str, Any]) -> Json:
        """The answer to a request for completions as a whole; raises `ServerError`."""
        return await self._whole("POST", f"{self._url}/completions", body)

    @asynccontextmanager
    async def stream(
        self, body: Mapping[str, Any]
    ) -> AsyncGenerator[AsyncGenerator[Json, None], None]:
        """The events of a request for completions; leaving the context ends the server's work.

        Raises `ServerError`, also while the events are read.
        """
        address = f"{self._url}/completions"
        with _translated():
            async with self._client.stream("POST", address, json=body) as answer:
                if answer.status_code != httpx.codes.OK:
                    await answer.aread()
                    raise self._error(answer)
                async with aclosing(self._events(answer)) as events:
                    yield events

    async def _events(self, answer: httpx.Response) -> AsyncGenerator[Json, None]:
        async with aclosing(_data(answer)) as lines:
            async for data in lines:
                if data == b"[DONE]":
                    return
                event = self._object(data)
                if event.get("error"):
                    raise Rejected(self._said(event), answer.status_code)
                yield event
        raise NoAnswer("the server ended a stream in the middle")

    async def _whole(self, method: str, url: str, body: Mapping[str, Any] | None) -> Json:
        with _translated():
            answer = await self._client.request(method, url, json=body)
        if answer.status_code != httpx.codes.OK:
            raise self._error(answer)
        return self._object(answer.content)

    def _object(self, content: bytes) -> Json:
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Rejected("the answer is no JSON object", httpx.codes.OK)
        return value

    def _error(self, answer: httpx.Response) -> ServerError:
        status = answer.status_code
        if status in NO_ENTRY:
            return NoEntry(f"status {status}")
        if status in GATEWAY:
            return NoAnswer(f"status {status}")
        try:
            said = self._said(answer.json())
        except (ValueError, RecursionError):
            said = ""
        said = said or f"status {status}"
        return Busy(said, _retry_after(answer)) if status in BUSY else Rejected(said, status)

    def _said(self, body: Any) -> str:
        """What the body of an error says, in one line and without the key."""
        error = body.get("error", body) if isinstance(body, dict) else body
        if isinstance(error, dict):
            error = error.get("message") or error.get("detail") or ""
        said = " ".join(str(error).split())
        if self._key:
            said = said.replace(self._key, "***")
        said = "".join(c for c in said if c.isprintable())
        short = said if len(said) <= MOST_CHARACTERS else said[: MOST_CHARACTERS - 1] + "…"
        return short.removesuffix(".")


@contextmanager
def _translated() -> Iterator[None]:
    """Turns errors of the transport into `NoAnswer`."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise NoAnswer(first_line(error)) from None


def _retry_after(answer: httpx.Response) -> float:
    try:
        return max(0.1, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):  # none, or a date
        return RETRY_SECONDS


async def _data(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The data of server-sent events, each of one line.

    Only line feeds end a line here: httpx also splits at other characters, which JSON may hold.
    """
    rest = b""
    async for part in answer.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > MOST_LINE_BYTES:
            raise Rejected("an event of the stream is too long", answer.status_code)
        for line in lines:
            if line.startswith(b"data:"):
                yield line[len(b"data:") :].strip()
