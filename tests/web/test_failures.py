"""The log has the kind and place of a failure, never its message."""

from __future__ import annotations

import asyncio
import io
import logging
from typing import Any

import pytest
from h11 import LocalProtocolError
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from gptj_demo.web.answers import FAILED, Answers
from gptj_demo.web.failures import FirstLine, PlainFormatter, describe_failure

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
