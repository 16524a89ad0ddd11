"""Middleware of the API: request ids, counts, the size of bodies, unknown paths, errors."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.api.context import COMPLETIONS
from gptj_demo.api.errors import FAILED, ApiError, of_refusal
from gptj_demo.api.metrics import Metrics
from gptj_demo.api.streaming import CallerLeft
from gptj_demo.client import RequestRefused

logger = logging.getLogger(__name__)

CALLER_LEFT = 499  # nginx's status for a client that left; only logged
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

PREFIXES = ("/v1/", "/v2/", "/api/")
POST_ONLY = ("/tokenize", "/detokenize", "/mcp")
GET_ONLY = ("/health", "/healthz", "/readyz", "/version", "/metrics", "/docs", "/openapi.json")
_KOBOLD_POST = ("/api/v1/generate", "/api/extra/generate/stream", "/api/extra/abort")
_KOBOLD_GET = (
    "/api/v1/info/version",
    "/api/v1/model",
    "/api/v1/config/max_context_length",
    "/api/extra/version",
    "/api/extra/true_max_context_length",
)
METHODS = {
    "/v1/completions": "POST",
    "/v1/models": "GET",
    "/v1/score": "POST",
    "/v1/likely": "POST",
    "/v1/internal/token-count": "POST",
    "/v2/runs": "POST",
    **dict.fromkeys(_KOBOLD_POST, "POST"),
    **dict.fromkeys(_KOBOLD_GET, "GET"),
    **dict.fromkeys(POST_ONLY, "POST"),
    **dict.fromkeys(GET_ONLY, "GET"),
}
"""The method of each route whose path has no parameter, for 405, the metrics and the log."""

Log = Callable[[dict[str, Any]], None]


def is_api(path: str) -> bool:
    """Whether a path belongs to the API rather than the page."""
    return path in METHODS or f"{path}/".startswith(PREFIXES)


def add_fallbacks(router: APIRouter) -> None:
    """The responses to wrong methods and to unknown paths of the API."""
    every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    below = [path for prefix in PREFIXES for path in (prefix[:-1], prefix + "{path:path}")]
    for path in (*below, *POST_ONLY, *GET_ONLY):
        router.api_route(path, methods=every, include_in_schema=False)(_no_such_route)


async def _no_such_route(request: Request) -> Response:
    path = request.url.path
    allowed = "GET" if path.startswith("/v1/models/") else METHODS.get(path)
    if allowed is None:
        raise ApiError(404, f"There is nothing at {path[:200]!r}; see /docs.", code="not_found")
    raise ApiError(
        405,
        f"{path[:200]} takes {allowed}, not {request.method}.",
        code="method_not_allowed",
        headers={"Allow": "GET, HEAD" if allowed == "GET" else allowed},
    )


class Front:
    """Middleware of the API: request ids, the count of responses, the size of bodies, the log.

    Each of `logs` gets the fields of a line of the access log.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        max_body_bytes: int,
        logs: Sequence[Log] = (),
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
        path = scope["path"] if scope["path"] in METHODS else "other"  # it can hold a text
        began, status = time.monotonic(), CALLER_LEFT
        has_started = has_ended = False

        def end() -> None:
            nonlocal has_ended
            if self._logs and not has_ended:
                completions = scope.get(COMPLETIONS)
                fields = {
                    "request_id": request_id,
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "ms": round(1000 * (time.monotonic() - began), 3),
                }
                fields |= {} if completions is None else completions.timings
                for log in self._logs:
                    log(fields)
            has_ended = True

        async def answer(message: Message) -> None:
            nonlocal has_started, status
            if message["type"] == "http.response.start":
                has_started = True
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                self._metrics.responses.labels(path, str(status)).inc()
            elif not message.get("more_body"):
                end()  # before FastAPI ends the span
            await send(message)

        try:
            await self._serve(scope, receive, answer)
        except ClientDisconnect:
            raise
        except Exception:
            if has_started:
                raise
            logger.exception("a request failed")
            await FAILED.response()(scope, receive, answer)
        finally:
            end()

    async def _serve(self, scope: Scope, receive: Receive, answer: Send) -> None:
        """Pass on a request whose body is not compressed and not too large."""
        headers = Headers(scope=scope)
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            compressed = ApiError(
                415,
                "The body must not be compressed: leave Content-Encoding out; it was "
                f"{coding[:60]!r}.",
                code="unsupported_content_encoding",
            )
            await compressed.response()(scope, receive, answer)
            return
        too_large = ApiError(
            413,
            f"The body is larger than the {self._max_body_bytes:,} bytes that are read here.",
            code="body_too_large",
        )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            await too_large.response()(scope, receive, answer)
            return
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise too_large
            return message

        await self._app(scope, measured, answer)


def add_error_answers(app: FastAPI) -> None:
    """Turn exceptions of a route into responses."""

    @app.exception_handler(ApiError)
    async def answer_error(request: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(RequestRefused)
    async def answer_refusal(request: Request, error: RequestRefused) -> Response:
        return of_refusal(error).response()

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> Response:
        return ApiError(error.status_code, str(error.detail), code="http_error").response()

    @app.exception_handler(CallerLeft)
    async def answer_nobody(request: Request, error: CallerLeft) -> Response:
        return Response(status_code=CALLER_LEFT)
