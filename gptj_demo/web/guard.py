"""Middleware that decides which requests reach a route."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.api.bodies import aside
from gptj_demo.api.errors import ApiError
from gptj_demo.api.front import is_api
from gptj_demo.settings import Settings
from gptj_demo.web.calls import BadCall, Calls
from gptj_demo.web.hosts import Hosts, name_of
from gptj_demo.web.origins import Origins, own_hosts
from gptj_demo.web.surface import find_route, is_read_only, refusal
from gptj_demo.web.unfinished import Unfinished

PROBES = ("/health", "/healthz", "/readyz")
"""Answered for every host name: load balancers use names of their own."""
OWN_FILES = "/page/"
MAX_LOGIN_BYTES = 10_000
NOTHING_HERE = "There is nothing at this address."
NOT_JSON = "The body must be JSON, sent as Content-Type: application/json."


class Guard:
    """Middleware: refuses unknown hosts, other sites, closed routes and malformed calls.

    Refusals have OpenAI's form on the routes of the API, else FastAPI's.
    """

    def __init__(self, app: ASGIApp, settings: Settings, calls: Calls) -> None:
        self._app = app
        self._hosts = Hosts(settings)
        self._origins = Origins(settings)
        self._calls = calls
        self._max_body_bytes = settings.max_body_bytes
        self._unfinished = Unfinished(settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no WebSocket here
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["method"] == "HEAD" and (is_api(scope["path"]) or is_read_only(scope["path"])):
            scope, send = {**scope, "method": "GET"}, _without_body(send)
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        refused = await self._refuse_site(method, path, headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        if is_api(path) or path.startswith(OWN_FILES):
            with self._unfinished.counted(scope, receive) as counted:
                await self._app(scope, counted, send)
            return
        route = find_route(method, path)
        if route is None:
            await refusal(404, NOTHING_HERE)(scope, receive, send)
        elif method == "POST":
            await self._post(route, scope, receive, send)
        elif route in ("/", "/config"):
            # there is one page and no deep link; Gradio fails for an unknown page
            await self._app({**scope, "query_string": b""}, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _refuse_site(self, method: str, path: str, headers: Headers) -> Response | None:
        """The refusal of a request for an unknown host name or from another site's page."""
        host = own_hosts(headers)[-1]
        if path not in PROBES and not await self._hosts.accepts(host):
            return _refuse(
                path,
                f"This playground does not answer to the name {name_of(host)[:100]!r}. Its "
                "deployer can add the name to GPTJ_ALLOWED_HOSTS.",
                "host_not_allowed",
            )
        if not self._origins.accepts(method, path, headers):
            return _refuse(
                path,
                "Pages of other sites cannot use this playground. Its deployer can add their "
                "origin to GPTJ_CORS_ORIGINS.",
                "origin_not_allowed",
            )
        return None

    async def _post(self, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body has been read and checked."""
        try:
            if route == "/login":
                content = await self._read(scope, receive, MAX_LOGIN_BYTES)
            else:
                _require_json(scope)
                content = await self._read(scope, receive, self._max_body_bytes)
                name = scope["path"].rpartition("/")[2]
                body, content = await aside(len(content), self._check, route, name, content)
                if route.endswith("/cancel") and not self._calls.is_own_event(body):
                    # as for an event that has ended, to hide whether the event exists
                    await JSONResponse({"success": True})(scope, receive, send)
                    return
        except BadCall as refused:
            await refusal(refused.status, refused.sentence)(scope, receive, send)
            return
        except ApiError as full:
            await refusal(full.status, full.message, **full.headers)(scope, receive, send)
            return
        is_read = False

        async def replay() -> Message:
            nonlocal is_read
            if is_read:
                return await receive()
            is_read = True
            return {"type": "http.request", "body": content, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, scope: Scope, receive: Receive, most: int) -> bytes:
        """The whole body; raises `BadCall`, or `ApiError` while too many are being received."""
        with self._unfinished.counted(scope, receive) as counted:
            return await _read(counted, most)

    def _check(self, route: str, name: str, content: bytes) -> tuple[dict[str, Any], bytes]:
        """The checked body of a call, decoded and as JSON; raises `BadCall`."""
        sent = _decode(content)
        body = self._calls.check(route, name, sent)
        return body, content if body is sent else json.dumps(body).encode()


def _without_body(send: Send) -> Send:
    """`send` for the answer to a HEAD request, which is that of GET without its body."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return answer


def _require_json(scope: Scope) -> None:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise BadCall(415, NOT_JSON)


async def _read(receive: Receive, most: int) -> bytes:
    """The whole body; raises `BadCall` if it has more bytes than `most`."""
    content = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the caller left; nobody reads the answer
            raise BadCall(400, NOT_JSON)
        content += message.get("body", b"")
        if len(content) > most:
            raise BadCall(413, f"The body is larger than the {most:,} bytes that are read here.")
        if not message.get("more_body"):
            return bytes(content)


def _decode(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadCall(400, "The body is not valid JSON.") from None


def _refuse(path: str, sentence: str, code: str) -> Response:
    if is_api(path):
        return ApiError(403, sentence, code=code).response()
    return refusal(403, sentence)
