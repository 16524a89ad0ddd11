"""What a stranger can reach: every route of Gradio and every function, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gptj_demo.api.description import TITLE
from gptj_demo.api.front import METHODS, is_api
from gptj_demo.web.calls import Calls
from gptj_demo.web.guard import NOTHING_HERE
from gptj_demo.web.surface import OPEN

from .conftest import WholeSite

API = "/gradio_api"
CLOSED = {
    # files, media and uploads: nothing here takes or returns a file
    ("POST", f"{API}/upload"),
    ("GET", f"{API}/upload_progress"),
    ("GET", f"{API}/file={{path_or_url:path}}"),
    ("HEAD", f"{API}/file={{path_or_url:path}}"),
    ("GET", f"{API}/file/{{path:path}}"),
    ("POST", f"{API}/process_recording"),
    ("POST", f"{API}/stream/{{event_id}}"),
    ("POST", f"{API}/stream/{{event_id}}/close"),
    ("GET", f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist.m3u8"),
    ("GET", f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/{{segment_id}}.{{ext}}"),
    ("GET", f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist-file"),
    # requests to hosts that a stranger chooses
    ("GET", f"{API}/proxy={{url_path:path}}"),
    ("HEAD", f"{API}/proxy={{url_path:path}}"),
    # other ways to call a function, without the queue
    ("POST", f"{API}/run/{{api_name}}"),
    ("POST", f"{API}/run/{{api_name}}/"),
    ("POST", f"{API}/api/{{api_name}}"),
    ("POST", f"{API}/api/{{api_name}}/"),
    # state that a stranger could make the server keep or drop
    ("GET", f"{API}/deep_link"),
    ("GET", f"{API}/heartbeat/{{session_hash}}"),
    ("GET", f"{API}/startup-events"),
    # of Gradio's developers, and of hosts that are not ours
    ("GET", f"{API}/dev/reload"),
    ("GET", "/svelte/{path:path}"),
    ("GET", f"{API}/custom_component/{{id}}/{{environment}}/{{type}}/{{file_name}}"),
    ("GET", f"{API}/vibe-code"),
    ("GET", f"{API}/vibe-code/"),
    ("POST", f"{API}/vibe-code"),
    ("POST", f"{API}/vibe-code/"),
    ("POST", f"{API}/vibe-edit"),
    ("POST", f"{API}/vibe-edit/"),
    ("POST", f"{API}/undo-vibe-edit"),
    ("POST", f"{API}/undo-vibe-edit/"),
    ("POST", f"{API}/vibe-starter-queries"),
    ("POST", f"{API}/vibe-starter-queries/"),
    ("GET", f"{API}/runs"),
    ("GET", f"{API}/runs/"),
    # information about other visitors
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/monitoring/{key}"),
    ("GET", f"{API}/queue/status"),
    # the visitor's name, which the page gets in its configuration
    ("GET", f"{API}/user"),
    ("GET", f"{API}/user/"),
    ("GET", f"{API}/token"),
    ("GET", f"{API}/token/"),
    ("GET", f"{API}/login_check"),
    ("GET", f"{API}/login_check/"),
    ("GET", f"{API}/app_id/"),
    # second spellings of open routes
    ("POST", "/login/"),
    ("GET", "/config/"),
    ("GET", f"{API}/info/"),
    ("GET", f"{API}/theme.css"),
    ("GET", "/pwa_icon/{size}"),
    ("POST", f"{API}/call/{{api_name}}/"),
    ("POST", f"{API}/call/v2/{{api_name}}/"),
    ("POST", f"{API}/reset/"),
    ("POST", f"{API}/component_server"),
}
"""The other routes of Gradio, which are answered with 404."""

SHADOWED = {("GET", "/openapi.json"), ("HEAD", "/openapi.json")}
"""Routes of Gradio behind a route of ours with the same path."""

FUNCTIONS = {
    # named, for programs: docs/api.md lists them
    "generate": "continues a text",
    "complete": "continues a text, with all details",
    "alternatives": "lists next tokens",
    "score": "scores a text",
    "compare_prompts": "scores prompts",
    "attribute": "scores parts of a prompt",
    "likely": "grows the tree of the likely",
    "compare": "runs a grid",
    "tokenize": "returns tokens",
    "code": "writes code for other clients",
    "status": "says which model answers",
    # events of the page
    "editor_generate": "Generate in the editor",
    "compare_run": "runs the grid of the Compare view",
    "batch_run": "runs a part of a file of rows in the Compare view",
    "likely_grow_tree": "grows the tree of the Likely view",
    "why_ask": "runs the scores of the Why view",
}
OURS = {
    "POST /v1/completions", "POST /v1/engines/{engine:path}/completions", "GET /v1/models",
    "GET /v1/models/{model:path}", "POST /v1/score", "POST /v1/likely",
    "POST /v1/internal/token-count", "POST /tokenize", "POST /detokenize", "POST /v2/runs",
    "POST /api/v1/generate", "POST /api/extra/generate/stream", "POST /api/extra/abort",
    "GET /api/v1/info/version", "GET /api/v1/model", "GET /api/v1/config/max_context_length",
    "GET /api/extra/version", "GET /api/extra/true_max_context_length", "POST /mcp", "GET /healthz",
    "GET /readyz", "GET /health", "GET /version", "GET /metrics", "GET /docs",
    "GET /openapi.json",
}  # fmt: skip
"""The routes of the API; docs/api.md lists them."""

SERVER_FUNCTIONS = {
    "status": "the status line asks for it",
    "count_tokens": "the editor shows the count",
    "unread": "the editor shows which part is not read",
    "stop": "ends a request whose random id the caller knows",
    "score": "colours the tokens of a text",
    "check_settings": "checks the settings of a link",
    "write_code": "writes the code that the dialog shows",
    "plan": "lists the cells of a grid or the parts of a prompt",
    "read_file": "returns the rows of a file whose text the page sends; it opens none",
    "plan_batch": "returns what a batch of rows would ask",
    "stop_batch": "ends a part of a batch whose random id the caller knows",
}


def routes_of(application: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of mounted applications and included routers too."""
    for route in application.routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(inner, "routes"):
            yield from routes_of(inner)
        else:
            yield from ((method, route.path) for method in route.methods)


def gradio_routes(site: WholeSite) -> set[tuple[str, str]]:
    return set(routes_of(site.routes.routes[-1].app))  # type: ignore[attr-defined]


def test_every_route_of_gradio_is_known_as_open_or_closed(site: WholeSite) -> None:
    """A route of a new version of Gradio stays closed; this test asks for a decision."""
    found = gradio_routes(site)
    assert not found - CLOSED - SHADOWED - set(OPEN), "new routes: open or closed?"
    assert not (CLOSED | set(OPEN)) - found, "Gradio no longer has these routes"
    assert site.ask("GET", "/openapi.json").json()["info"]["title"] == TITLE
    assert not CLOSED & set(OPEN)
    assert all(OPEN.values())


def test_every_route_of_ours_is_known(site: WholeSite) -> None:
    """Routes of ours take one method each; the fallbacks, which take all, are left out."""
    *ours, _ = site.routes.routes  # the last one is Gradio's application
    found = {}
    for route in ours:
        inner = getattr(route, "original_router", None)
        for one in [route] if inner is None else inner.routes:
            for deeper in getattr(getattr(one, "original_router", one), "routes", [one]):
                methods = deeper.methods - {"HEAD"}
                if len(methods) == 1 and is_api(deeper.path):
                    found[f"{min(methods)} {deeper.path}"] = deeper
    assert set(found) == OURS
    plain = {route for route in OURS if "{" not in route}
    assert {f"{method} {path}" for path, method in METHODS.items()} == plain


@pytest.mark.parametrize(("method", "path"), sorted(CLOSED))
def test_a_closed_route_is_404_with_one_sentence(site: WholeSite, method: str, path: str) -> None:
    filled = re.sub(r"\{[^}]*\}", "1", path)
    for written in (filled, filled.replace("gradio_api", "gradio%5Fapi"), f"{filled}?a=b"):
        answer = site.ask(method, written, json={} if method == "POST" else None)
        assert answer.status_code == 404
        if method != "HEAD":
            assert answer.json() == {"detail": NOTHING_HERE}


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/pwa_icon",
             "/robots.txt", f"{API}/info", f"{API}/openapi.json",
             "/static/js/iframeResizer.contentWindow.min.js", "/docs", "/healthz"],
)  # fmt: skip
def test_an_open_route_answers(site: WholeSite, path: str) -> None:
    assert site.ask("GET", path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/config", "/theme.css", f"{API}/info", "/docs", "/openapi.json", "/healthz",
             "/readyz", "/metrics", "/v1/models", "/v1/models/x", "/v1/nothing", "/v1/completions"],
)  # fmt: skip
def test_head_is_answered_as_get_without_a_body(site: WholeSite, path: str) -> None:
    head, get = site.ask("HEAD", path), site.ask("GET", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/logout", f"{API}/queue/data", f"{API}/call/tokenize/1"])
def test_head_takes_no_results_and_ends_no_login(site: WholeSite, path: str) -> None:
    assert site.ask("HEAD", path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", f"{API}/queue/data", 422, None),
        ("POST", f"{API}/cancel", 422, {"session_hash": "a", "fn_index": "TheVisitorsWords"}),
        ("POST", f"{API}/reset", 422, {}),
        ("POST", f"{API}/call/nothing", 404, {"data": []}),
        ("POST", f"{API}/call/tokenize", 400, {"data": []}),
        ("GET", "/nothing", 404, None),
        ("GET", "/assets/nothing.js", 404, None),
        ("GET", "/page/nothing", 404, None),
        ("GET", "/page/nothing/core/none.js", 404, None),
        ("PUT", "/", 404, None),
        ("GET", "/v1", 404, None),
        ("GET", "/v1/nothing", 404, None),
        ("GET", "/tokenize", 405, None),
        ("PATCH", "/healthz", 405, None),
    ],
)
def test_an_error_has_the_format_of_its_route(
    site: WholeSite, method: str, path: str, status: int, body: Any
) -> None:
    """The API's routes use OpenAI's format; all others send one sentence in FastAPI's format."""
    answer = site.ask(method, path, json=body)
    assert answer.status_code == status
    content = answer.json()
    if is_api(path):
        assert content.keys() == {"error"}
        assert content["error"].keys() == {"message", "type", "param", "code"}
    else:
        assert content.keys() == {"detail"}
        assert isinstance(content["detail"], str)
    assert "TheVisitorsWords" not in answer.text


def test_every_function_that_can_be_called_is_known(site: WholeSite) -> None:
    named = {str(fn.api_name) for fn in site.page.fns.values() if fn.fn is not None}
    assert named == set(FUNCTIONS)
    assert {name for _, name in Calls(site.page).server_functions} == set(SERVER_FUNCTIONS)
    public = set(site.ask("GET", f"{API}/info").json()["named_endpoints"])
    assert public == {f"/{name}" for name in list(FUNCTIONS)[:11]}


def test_the_configuration_holds_no_path_of_this_machine(site: WholeSite) -> None:
    import os

    served = site.ask("GET", "/config").text + site.ask("GET", "/").text
    home = os.path.expanduser("~")
    for path in {os.getcwd(), *([] if home == "/" else [home])}:
        assert f'"{path}' not in served
        assert f"{path}/" not in served


def test_no_websocket_is_open(site: WholeSite) -> None:
    import asyncio

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": f"{API}/queue/join", "headers": [], "client": None}
    asyncio.run(site.application(scope, receive, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
