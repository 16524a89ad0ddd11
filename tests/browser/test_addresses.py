"""The page under other addresses: behind a proxy that serves it under a path, and with a login."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.processes import App
from tests.waiting import PATIENCE, eventually
from tests.web_server import WebServer

from .conftest import Visitor

Visit = Callable[..., Visitor]
METHODS = ["GET", "HEAD", "POST"]


@contextmanager
def proxy(target: str, path: str) -> Iterator[str]:
    """Serves `target` under a path, as a reverse proxy does; yields the address there."""

    @asynccontextmanager
    async def client(_: Starlette) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
        async with httpx.AsyncClient(base_url=target, timeout=None) as opened:
            yield {"client": opened}

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.state.client
        headers = [(k, v) for k, v in request.headers.raw if k not in (b"accept-encoding",)]
        asked = client.build_request(
            request.method,
            request.url.path.removeprefix(path) or "/",
            params=request.query_params,
            headers=headers,
            content=await request.body(),
        )
        answer = await client.send(asked, stream=True)
        dropped = ("content-length", "transfer-encoding", "content-encoding")
        kept = {k: v for k, v in answer.headers.items() if k not in dropped}
        return StreamingResponse(answer.aiter_bytes(), answer.status_code, kept)

    route = Route(path + "{rest:path}", forward, methods=METHODS)
    server = WebServer(Starlette(routes=[route], lifespan=client), lifespan="on")
    server.start()
    try:
        yield f"http://127.0.0.1:{server.port}{path}/"
    finally:
        server.stop()


def test_the_page_works_behind_a_proxy_that_serves_it_under_a_path(
    model: str, visit: Visit
) -> None:
    app = App("--model", model, environment={"GRADIO_ROOT_PATH": "/play/ground"})
    try:
        eventually(app.is_up)
        with proxy(app.url, "/play/ground") as address:
            person = visit(address)
            expect(person.page.locator('.top[data-state="ready"]')).to_be_visible()
            person.write("Once upon a time")
            person.generate()
            loaded = person.page.evaluate(
                "performance.getEntriesByType('resource').map(({ name }) => name)"
            )
            modules = [name for name in loaded if "/page/" in name]
            assert modules
            assert all(name.startswith(address + "page/") for name in modules)
    finally:
        app.stop()


def test_the_page_works_after_a_login(model: str, chromium: Browser) -> None:
    app = App("--model", model, environment={"GPTJ_LOGIN": "ann:secret word"})
    try:
        eventually(app.is_up)
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(app.url)
        page.get_by_label("username").fill("ann")
        page.get_by_label("password").fill("secret word")
        page.get_by_role("button", name="Login").click()
        expect(page.locator('.top[data-state="ready"]')).to_be_visible()
        page.get_by_label("Prompt", exact=True).fill("Once upon a time")
        page.keyboard.press("Control+Enter")
        expect(page.locator(".ink .by-model").first).not_to_be_empty()
        page.close()
    finally:
        app.stop()
