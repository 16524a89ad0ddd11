"""The playground as on a ZeroGPU Space, and an ordinary one with the same model beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.browser.conftest import chromium, visit
from tests.engine.checkpoints import make_checkpoint
from tests.processes import ROOT, App
from tests.waiting import PATIENCE

__all__ = ["chromium", "visit"]  # fixtures

FAKE = Path(__file__).parent / "fake"
REAL = os.environ.get("GPTJ_SPACES")
"""A folder with the real `spaces` package; `make zerogpu` sets it."""
PRECISION = "float16" if REAL else "float32"
"""The real package names a GPU, for which the weights are loaded in 16 bits."""
LEASE_SECONDS = 600
REAL_PATH = ("--precision", PRECISION, "--backend", "eager")
FLAGS = ("--max-num-seqs", "16", "--trusted-proxies", "127.0.0.1")


class Playground(App):
    """A playground that is spoken to by visitors with addresses and tokens of their own."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None) -> None:
        super().__init__(*FLAGS, *flags, environment=environment)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)

    def headers(self, visitor: str) -> dict[str, str]:
        """What Hugging Face's proxy adds to a visitor's request."""
        address = f"192.0.2.{sum(visitor.encode()) % 250}"
        return {"X-Forwarded-For": address, "X-IP-Token": visitor}

    def complete(self, visitor: str, prompt: str, **body: Any) -> httpx.Response:
        """POST /v1/completions."""
        asked = {"prompt": prompt, "seed": 7, **body}
        return self.http.post("/v1/completions", json=asked, headers=self.headers(visitor))

    def compare(self, visitor: str, prompt: str, tokens: int) -> list[str]:
        """The texts of a comparison of nine cells."""
        body = {
            "prompt": prompt,
            "columns": "temperature",
            "column_values": "0.2, 0.6, 1",
            "rows": "top_p",
            "row_values": "0.5, 0.8, 1",
            "controls": {"seed": 3, "max_new_tokens": tokens},
        }
        headers = self.headers(visitor)
        joined = self.http.post("/gradio_api/call/v2/compare", json=body, headers=headers)
        url = f"/gradio_api/call/v2/compare/{joined.json()['event_id']}"
        lines = self.http.get(url, headers=headers).text.splitlines()
        assert "event: complete" in lines, lines[-4:]
        answer = json.loads(lines[lines.index("event: complete") + 1].removeprefix("data: "))
        return [cell["text"] for cell in answer[0]["cells"]]

    def stop(self) -> None:
        self.http.close()
        super().stop()


class OnZeroGpu(Playground):
    """The same with Hugging Face's package or its stand-in; `log` has the noted events."""

    def __init__(self, model: Path, log: Path) -> None:
        self._log = log
        environment = {
            "SPACES_ZERO_GPU": "true",
            "FAKE_SPACES_LOG": str(log),
            "HOME": str(log.parent),  # where the package packs weights
            "PYTHONPATH": f"{REAL or FAKE}{os.pathsep}{ROOT}",
        }
        super().__init__("--model", str(model), environment=environment)

    def _start(self) -> subprocess.Popen[bytes]:
        kind = "real" if REAL else "fake"
        host = [sys.executable, "-m", "tests.zerogpu.host", str(LEASE_SECONDS), kind]
        flags = self._command[self._command.index("app.py") + 1 :]
        return subprocess.Popen([*host, *flags], cwd=ROOT, env=self._environment)

    def log(self, event: str, **values: Any) -> list[dict[str, Any]]:
        """The noted events of this kind that have these values."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        noted = [json.loads(line) for line in lines]
        return [one for one in noted if one["event"] == event and values.items() <= one.items()]

    def end(self) -> int:
        """Send SIGTERM, as Spaces do, and return the exit code."""
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), n_positions=2048)


@pytest.fixture(scope="package")
def ordinary(model: Path) -> Iterator[Playground]:
    playground = Playground("--model", str(model), *(REAL_PATH if REAL else ()))
    try:
        playground.wait_until_ready()
        yield playground
    finally:
        playground.stop()


@pytest.fixture(scope="package")
def zerogpu(
    model: Path, ordinary: Playground, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnZeroGpu]:
    playground = OnZeroGpu(model, tmp_path_factory.mktemp("spaces") / "log")
    try:
        playground.wait_until_ready()
        yield playground
    finally:
        if playground.process.poll() is None:
            playground.stop()
