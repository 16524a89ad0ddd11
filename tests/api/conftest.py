"""A playground in a process of its own, spoken to over loopback as any program would."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60
SLOTS = 8


def wait_until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value of `condition`; fails the test where there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"not so within {seconds} s: {condition}")


class Playground:
    """`python app.py` with the sample model, and an HTTP client for it."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        options = {"--model": "sample", "--max-streams": str(SLOTS), "--server-port": str(port)}
        arguments = [part for option in options.items() for part in option]
        self.process = subprocess.Popen(
            [sys.executable, "app.py", *arguments, *flags],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def is_up(self) -> bool:
        assert self.process.poll() is None, "app.py ended"
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def is_ready(self) -> bool:
        return self.http.get("/readyz").status_code == 200

    def wait_until_ready(self) -> None:
        wait_until(self.is_up, START_SECONDS)
        wait_until(self.is_ready, START_SECONDS)

    def complete(self, prompt: Any = "Once upon a time", **body: Any) -> httpx.Response:
        """POST /v1/completions."""
        return self.http.post("/v1/completions", json={"prompt": prompt, **body})

    def choices(self, prompt: Any = "Once upon a time", **body: Any) -> list[dict[str, Any]]:
        """The choices of a request that succeeds."""
        answer = self.complete(prompt, **body)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["choices"])

    def metrics(self) -> dict[str, float]:
        """What /metrics tells, by name and labels."""
        lines = self.http.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def wait_until_idle(self) -> dict[str, float]:
        """Wait until nothing runs or waits; the metrics then."""

        def idle() -> dict[str, float] | None:
            told = self.metrics()
            names = ("gptj_requests_open", "gptj_streams_running", "gptj_requests_waiting")
            return None if any(told[name] for name in names) else told

        return dict(wait_until(idle))

    @property
    def engine(self) -> psutil.Process:
        """The engine's process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c for c in children if "gptj_demo.engine" in c.cmdline())

    def stop(self) -> None:
        self.http.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)


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
    wait_until(running_playground.is_ready, START_SECONDS)
    yield running_playground
    running_playground.wait_until_idle()
