"""Middleware of the page: the size of bodies. `Front` does the same for the API."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.api.front import is_api


class PageBodies:
    """Refuses bodies of the page's requests that are larger than `most` bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._refusal = f"The body is larger than the {most:,} bytes that are read here."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._most:
            answer = JSONResponse({"detail": self._refusal}, status_code=413)
            await answer(scope, receive, send)
            return
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, measured, send)
