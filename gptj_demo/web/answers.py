"""The headers of all responses, and the response to a request in which our own code failed."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Sequence

from fastapi.exceptions import RequestValidationError
from h11 import LocalProtocolError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.web.failures import describe_failure
from gptj_demo.web.surface import refusal

logger = logging.getLogger(__name__)

INLINE_SCRIPT = re.compile(r"<script\b(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)
FAILED = "Something went wrong in the playground itself."


def hash_source(script: str) -> str:
    """An inline script as a source of a content security policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _ancestors(frames: Sequence[str]) -> str:
    return " ".join(["frame-ancestors 'self'", *frames])


def document_policy(frames: Sequence[str]) -> str:
    """The policy of responses other than Gradio's pages: they run no script and load nothing."""
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; base-uri 'none'; "
        f"form-action 'none'; {_ancestors(frames)}"
    )


def page_policy(html: str, scripts: Sequence[str], frames: Sequence[str]) -> str:
    """The policy of the page: its own files, the inline scripts of `html`, and `scripts`.

    Gradio compiles the scripts of components ('unsafe-eval') and its components set styles.
    """
    inline = sorted({hash_source(script) for script in (*INLINE_SCRIPT.findall(html), *scripts)})
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval' {' '.join(inline)}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "worker-src 'self' blob:; object-src 'none'; frame-src 'none'; base-uri 'self'; "
        f"form-action 'self'; {_ancestors(frames)}"
    )


class PageScripts:
    """Middleware of Gradio's application: the policy of its pages.

    It is the innermost one, where answers are not compressed yet. `scripts` are the inline scripts
    that Gradio inserts from the page's configuration.
    """

    def __init__(self, app: ASGIApp, scripts: Sequence[str], frames: Sequence[str]) -> None:
        self._app = app
        self._scripts = scripts
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def answer(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                policy = page_policy(body.decode(), self._scripts, self._frames)
                MutableHeaders(scope=start)["Content-Security-Policy"] = policy
                await send(start)
                message = {**message, "body": body}
            await send(message)

        await self._app(scope, receive, answer)


async def answer_invalid(request: Request, error: Exception) -> Response:
    """The response to a request with fields that Gradio's routes reject: one sentence.

    FastAPI's own response is a list that repeats the input.
    """
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])[:100]
    return refusal(422, f"{name or 'The body'}: {str(first['msg'])[:100]}.")


async def answer_failure(request: Request, error: Exception) -> Response:
    """The response of Gradio's application where it failed; `Answers` logs the failure."""
    return refusal(500, FAILED)


class Answers:
    """Middleware: the security headers, and 500 with one sentence for an unexpected exception."""

    def __init__(self, app: ASGIApp, frames: Sequence[str]) -> None:
        self._app = app
        self._headers = {
            "X-Content-Type-Options": "nosniff",
            # not no-referrer, with which browsers send the page's own posts with Origin: null
            "Referrer-Policy": "same-origin",
            "Content-Security-Policy": document_policy(frames),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def answer(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if headers.get("content-type", "").startswith("text/event-stream"):
                    headers["X-Accel-Buffering"] = "no"  # nginx passes each event on at once
                try:
                    await send(message)
                except LocalProtocolError:  # uvicorn has refused the malformed body and closes
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    raise ClientDisconnect from None
                return
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            return  # the client has disconnected
        except Exception as error:
            if has_started and isinstance(error.__cause__, HTTPException):
                # Gradio has refused a stream with an event: only end the response
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            logger.error("a request failed: %s", describe_failure(error))
            if not has_started:
                await refusal(500, FAILED)(scope, receive, answer)
