"""The size of bodies on the page's paths."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gptj_demo.api.bodies import PageBodies

MOST = 1000


@pytest.fixture
def client() -> TestClient:
    async def size(request: Request) -> JSONResponse:
        return JSONResponse(len(await request.body()))

    app = Starlette(routes=[Route("/{path:path}", size, methods=["POST"])])
    return TestClient(PageBodies(app, MOST))


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload", "/"])
def test_a_large_body_is_refused_with_and_without_its_length(client: TestClient, path: str) -> None:
    assert client.post(path, content=b"x" * MOST).json() == MOST
    answers = [
        client.post(path, content=b"x" * (MOST + 1)),
        client.post(path, content=iter([b"x" * MOST, b"x"])),
        client.post(path, headers={"Content-Length": "-1"}),
        client.post(path, headers={"Content-Length": "9" * 5000}),
    ]
    assert [answer.status_code for answer in answers] == [413] * 4
    assert "larger than the 1,000 bytes" in answers[0].text


def test_the_apis_own_limit_is_left_to_it(client: TestClient) -> None:
    assert client.post("/v1/completions", content=b"x" * (MOST + 1)).json() == MOST + 1
