"""OpenTelemetry: the attributes of a request's span. The SDK itself is not needed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from opentelemetry import trace

from gptj_demo.api import tracing
from gptj_demo.api.access import Access
from gptj_demo.api.service import build_service
from gptj_demo.client import Worker
from gptj_demo.settings import Settings


class Recorder(trace.NonRecordingSpan):
    """A span that keeps its attributes."""

    def __init__(self) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.given: dict[str, Any] = {}

    def set_attributes(self, attributes: Any) -> None:
        self.given |= attributes


def test_the_span_of_a_request_gets_its_id_path_status_and_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracing, "is_installed", lambda: True)
    settings = Settings(model="sample")
    app = build_service(Worker(settings), Access(settings))
    span = Recorder()

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            with trace.use_span(span):
                await client.get("/v1/models/TheVisitorsWords", headers={"X-Request-Id": "own"})

    asyncio.run(ask())
    assert span.given["gptj.request_id"] == "own"
    assert (span.given["gptj.path"], span.given["gptj.status"]) == ("other", 503)
    assert span.given["gptj.ms"] > 0
    assert "TheVisitorsWords" not in str(span.given)


def test_a_time_that_is_not_known_is_left_out() -> None:
    span = Recorder()
    with trace.use_span(span):
        tracing.add_to_span({"predicted_n": 0, "predicted_per_second": None})
    assert span.given == {"gptj.predicted_n": 0}
