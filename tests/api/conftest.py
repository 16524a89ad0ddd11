"""A playground in its own process, with an HTTP client on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.processes import App, read_metrics
from tests.waiting import PATIENCE, eventually

SLOTS = 8


class Playground(App):
    """`python app.py` with the sample model, and an HTTP client for it."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        options = ("--model", "sample", "--max-num-seqs", str(SLOTS))
        super().__init__(*options, *flags, environment=environment)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def complete(self, prompt: Any = "Once upon a time", **body: Any) -> httpx.Response:
        """POST /v1/completions."""
        return self.http.post("/v1/completions", json={"prompt": prompt, **body})

    def choices(self, prompt: Any = "Once upon a time", **body: Any) -> list[dict[str, Any]]:
        """The choices of a request that succeeds."""
        answer = self.complete(prompt, **body)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["choices"])

    def metrics(self) -> dict[str, float]:
        """What /metrics returns to this client, which may have a key."""
        return read_metrics(self.http.get("/metrics").text)

    def wait_until_idle(self) -> dict[str, float]:
        """Wait until no request runs or waits, and return the metrics."""

        def idle() -> dict[str, float] | None:
            metrics = self.metrics()
            names = ("gptj_requests_open", "gptj_streams_running", "gptj_requests_waiting")
            return None if any(metrics[name] for name in names) else metrics

        return dict(eventually(idle))

    def stop(self) -> None:
        self.http.close()
        super().stop()


@pytest.fixture(scope="package")
def running_playground() -> Iterator[Playground]:
    playground = Playground("--max-waiting", "40")
    try:
        playground.wait_until_ready()
        yield playground
    finally:
        playground.stop()


@pytest.fixture
def playground(running_playground: Playground) -> Iterator[Playground]:
    """The playground, ready before the test; after it nothing may run or wait."""
    eventually(running_playground.is_ready)
    yield running_playground
    running_playground.wait_until_idle()
