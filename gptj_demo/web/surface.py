"""The routes of Gradio that are open; all others are answered with 404.

Gradio serves about 80 routes, most of them for files, media and tools of its developers. The page
and the clients need the ones below. Our own routes are not checked here.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

PAGE = "the page loads it"
CLIENTS = "gradio_client and @gradio/client call functions with it"
OPEN: dict[tuple[str, str], str] = {
    ("GET", "/"): "the page",
    ("HEAD", "/"): "the page, as monitors ask for it",
    ("GET", "/assets/{path:path}"): "Gradio's scripts and styles",
    ("GET", "/static/{path:path}"): "Gradio's script for frames",
    ("GET", "/theme.css"): PAGE,
    ("GET", "/favicon.ico"): PAGE,
    ("GET", "/manifest.json"): PAGE,
    ("GET", "/pwa_icon"): "the icon that the manifest names",
    ("GET", "/robots.txt"): "search engines ask for it",
    ("POST", "/login"): "a visitor logs in; throttled",
    ("GET", "/logout"): "a visitor logs out",
    ("GET", "/config"): CLIENTS,
    ("GET", "/gradio_api/app_id"): "the page looks there until a lost server is back",
    ("GET", "/gradio_api/info"): CLIENTS,
    ("GET", "/gradio_api/openapi.json"): "describes the functions for programs",
    ("POST", "/gradio_api/call/{api_name}"): "curl and the clients call a function",
    ("GET", "/gradio_api/call/{api_name}/{event_id}"): "reads the result of such a call",
    ("POST", "/gradio_api/call/v2/{api_name}"): "the same with named inputs",
    ("GET", "/gradio_api/call/v2/{api_name}/{event_id}"): "reads the result of such a call",
    ("POST", "/gradio_api/queue/join"): "the page and the clients call a function",
    ("GET", "/gradio_api/queue/data"): "reads the results of a session's calls",
    ("POST", "/gradio_api/cancel"): "ends a call of the caller's session",
    ("POST", "/gradio_api/reset"): "the clients send it after a cancel; it does nothing",
    ("POST", "/gradio_api/component_server/"): "the page calls a server function of a component",
}
"""Method and path of each open route, and why it is open."""

_FIXED = {(method, path) for method, path in OPEN if "{" not in path}
_PATTERNS = [(method, path, compile_path(path)[0]) for method, path in OPEN if "{" in path]
_PATTERNS.sort(key=lambda entry: "/v2/" not in entry[1])  # before the pattern that also fits


_EFFECTIVE = ("/logout", "/gradio_api/queue/data", "/gradio_api/call/")
"""Open routes whose GET ends a login or takes a call's results."""


def find_route(method: str, path: str) -> str | None:
    """The open route of a request as `OPEN` has it, None if there is none."""
    if method == "OPTIONS":
        return next((known for _, known in _FIXED if known == path), None) or next(
            (known for _, known, pattern in _PATTERNS if pattern.match(path)), None
        )
    if (method, path) in _FIXED:
        return path
    return next(
        (known for needed, known, found in _PATTERNS if needed == method and found.match(path)),
        None,
    )


def is_read_only(path: str) -> bool:
    """Whether GET of this open route does nothing, so that HEAD can be answered in the same way."""
    route = find_route("GET", path)
    return route is not None and not route.startswith(_EFFECTIVE)


def refusal(status: int, sentence: str, **headers: str) -> Response:
    """A refusal of a route that is not the API's: one sentence, in the form that FastAPI uses."""
    # a name that the sentence repeats may hold half a surrogate pair, which UTF-8 lacks
    body: dict[str, Any] = {"detail": sentence.encode("utf-8", "replace").decode()}
    return JSONResponse(body, status, headers=headers)
