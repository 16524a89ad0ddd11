"""The log has the kind and place of a failure, never its message."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from typing import Any

import pytest
from h11 import LocalProtocolError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from gptj_demo.api.access import Access
from gptj_demo.web.answers import FAILED, Answers
from gptj_demo.web.failures import (
    REPEAT_SECONDS,
    FirstLine,
    PlainFormatter,
    describe_failure,
)
from tests.web.conftest import build_site

SECRET = "words of a visitor"


def failure() -> Exception:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"bad: {SECRET}") from error
    except ValueError as error:
        return error


def test_a_failure_is_described_without_its_message() -> None:
    description = describe_failure(failure())
    assert SECRET not in description
    assert "ValueError at test_failures.py:" in description
    assert "because of KeyError at test_failures.py:" in description
    assert "failure" in description
    assert "\n" not in description


def test_the_log_shows_no_message_of_an_exception() -> None:
    logger = logging.Logger("asyncio")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.addFilter(FirstLine())
    logger.error("a task failed\nfuture: <Task exception=%r>", SECRET, exc_info=failure())
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().startswith("ERROR asyncio: a task failed\nValueError at ")


def test_a_failed_request_is_500_with_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise failure()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Answers(broken, [])(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 500
    assert FAILED.encode() in sent[1]["body"]
    assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
    assert SECRET not in caplog.text
    assert "ValueError at " in caplog.text


def test_a_failed_route_of_the_api_is_500_in_openais_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise failure()

    site = build_site(access_log="json")
    monkeypatch.setattr(Access, "identify", broken)
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/completions")):
        answer = site.ask(method, path, json={"prompt": SECRET})
        assert answer.status_code == 500
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "internal")
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        counted = f'gptj_http_responses_total{{path="{path}",status="500"}} 1.0'
        assert counted in site.ask("GET", "/metrics").text
        lines = capsys.readouterr()
        assert f'"path": "{path}", "status": 500' in lines.out + lines.err
        assert SECRET not in lines.out + lines.err


def test_a_failed_route_of_gradio_is_500_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise failure()

    site = build_site()
    monkeypatch.setattr(site.page, "get_api_info", broken)
    answer = site.ask("GET", "/gradio_api/info")
    assert (answer.status_code, answer.json()) == (500, {"detail": FAILED})
    assert "ValueError at " in caplog.text


@pytest.mark.parametrize("kind", ["left before the body", "malformed body"])
def test_a_broken_connection_is_no_failure(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn has closed the connection, or does so at once."""

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        if kind == "left before the body":
            raise ClientDisconnect
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise LocalProtocolError("the connection is in an error state")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    asyncio.run(Answers(answers, [])(scope, receive, send))
    assert not caplog.text


@pytest.mark.parametrize(
    ("kind", "header"), [("text/event-stream; charset=utf-8", "no"), ("text/html", None)]
)
def test_a_proxy_is_asked_to_pass_on_each_event_at_once(kind: str, header: str | None) -> None:
    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Answers(streaming, ())(scope, None, send))  # type: ignore[arg-type]
    assert Headers(raw=sent[0]["headers"]).get("x-accel-buffering") == header


def test_a_line_of_asyncio_that_repeats_is_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    logger = logging.Logger("asyncio")
    stream = io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    logger.addFilter(FirstLine())
    for message in ("full", "full\nsocket: 1", "other", "full"):
        logger.error(message)
    now += REPEAT_SECONDS
    logger.error("full")
    assert stream.getvalue().split() == ["full", "other", "full", "full"]
