"""The login of the page: limits guesses and sets the flags of the cookie; Gradio does the rest."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.api.guesses import Guesses
from gptj_demo.hosting import is_on_a_space
from gptj_demo.web.surface import refusal

PLAIN = b"access-token-unsecure-"
"""How the name of Gradio's login cookie begins over http; over https it begins `access-token-`."""


class Logins:
    """Middleware: throttles `POST /login` by address and sets the flags of its cookies.

    Over https the cookie is `Secure`. On a Space, whose page is in a frame of Hugging Face, it is
    `SameSite=None`, elsewhere `SameSite=Lax`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._guesses = Guesses()
        self._is_framed = is_on_a_space()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/login"):
            await self._app(scope, receive, send)
            return
        peer = scope.get("client")
        address = peer[0] if peer else ""
        wait = self._guesses.wait(address)
        if wait:
            sentence = f"Too many attempts to log in. Try again in {wait} seconds."
            await refusal(429, sentence, **{"Retry-After": str(wait)})(scope, receive, send)
            return
        self._guesses.count(address)  # before the response, so that concurrent guesses count
        origin = Headers(scope=scope).get("origin", "")
        is_secure = scope["scheme"] == "https" or origin.startswith("https://")

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] < 400:
                    self._guesses.take_back(address)
                message = {**message, "headers": self._with_flags(message["headers"], is_secure)}
            await send(message)

        await self._app(scope, receive, answer)

    def _with_flags(
        self, headers: list[tuple[bytes, bytes]], is_secure: bool
    ) -> list[tuple[bytes, bytes]]:
        """The headers with one cookie: that for https, or that for http."""
        kept = []
        for name, value in headers:
            if name.lower() == b"set-cookie":
                if value.startswith(PLAIN) == is_secure:
                    continue
                pair = value.partition(b";")[0]
                value = pair + b"; Path=/; HttpOnly; SameSite="
                value += b"None" if is_secure and self._is_framed else b"Lax"
                value += b"; Secure" if is_secure else b""
            kept.append((name, value))
        return kept
