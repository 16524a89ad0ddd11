"""Headers of reverse proxies: those of trusted ones are applied, all others are removed."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gptj_demo.client.visitor import unmapped

FORWARDED = (b"forwarded", b"x-gradio-server")
"""Headers other than `X-Forwarded-*` that can name another host."""


class Forwarded:
    """Middleware: after it, a forwarding header in a request comes from a trusted proxy.

    `trusted` lists addresses and networks, separated by commas.
    """

    def __init__(self, app: ASGIApp, trusted: str | None) -> None:
        self._app = app
        self._behind_proxy = ProxyHeadersMiddleware(app, trusted or [])  # type: ignore[arg-type]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        peer = scope.get("client")
        if peer is not None:
            peer = (unmapped(peer[0]), peer[1])
            scope = {**scope, "client": peer}
        if peer is not None and peer[0] in self._behind_proxy.trusted_hosts:
            await self._behind_proxy(scope, receive, send)  # type: ignore[arg-type]
            return
        kept = [(name, value) for name, value in scope["headers"] if not _is_forwarding(name)]
        await self._app({**scope, "headers": kept}, receive, send)


def _is_forwarding(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in FORWARDED
