"""Gradio's page and its descriptions, built once for each address at which visitors see them.

Gradio takes 25 ms of Python to build the page, mostly in a thread. If it built the page for each
visitor, a few visitors at the same moment would slow the event loop and all streams.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT = ("/", "/config", "/gradio_api/info")
MAX_ANSWERS = 24
"""The page has half a megabyte. Callers can choose the address, so the oldest answer is dropped."""
NAMING = frozenset({b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server"})
"""The headers from which Gradio makes the page's own address, which is a part of the answers."""


class KeptPage:
    """Middleware for a page without a login, which is the same for everybody."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers: OrderedDict[Any, list[Message]] = OrderedDict()
        self._building = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        if not is_get or scope["path"] not in KEPT or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        address = _address(scope)
        answer = self._answers.get(address)
        if answer is None:
            async with self._building:  # one after another: threads slow the event loop together
                answer = self._answers.get(address) or await self._build(scope, receive)
                self._keep(address, answer)
        for message in answer:
            if "headers" in message:  # middleware around this one adds headers to the list
                message = {**message, "headers": [*message["headers"]]}
            await send(message)

    def _keep(self, address: Any, answer: list[Message]) -> None:
        start = answer[0]
        has_cookie = any(name == b"set-cookie" for name, _ in start["headers"])
        if start["status"] == 200 and not has_cookie:
            self._answers[address] = answer
        while len(self._answers) > MAX_ANSWERS:
            self._answers.popitem(last=False)

    async def _build(self, scope: Scope, receive: Receive) -> list[Message]:
        """The messages of the application's answer."""
        messages: list[Message] = []

        async def note(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, note)
        return messages


def _address(scope: Scope) -> Any:
    """The path of a request, and all from which Gradio makes the page's own address."""
    named = tuple(header for header in scope["headers"] if header[0] in NAMING)
    return scope["path"], scope["scheme"], scope.get("server"), scope.get("root_path"), named
