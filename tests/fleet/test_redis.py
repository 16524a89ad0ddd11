"""Two web processes that count a caller's tokens in one Redis."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes import App, free_port
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="redis-server is not installed"
)


class Redis:
    """A Redis that keeps nothing on the disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        return subprocess.Popen([*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    redis = Redis(tmp_path)
    yield redis
    redis.end()


def test_the_token_limit_of_a_caller_is_shared_by_all_servers(redis: Redis) -> None:
    flags = (
        "--model", "sample", "--max-num-seqs", "2", "--tokens-per-minute", "300",
        "--limits-storage", f"redis://127.0.0.1:{redis.port}/0",
    )  # fmt: skip
    apps = [App(*flags), App(*flags)]
    try:
        for app in apps:
            eventually(app.is_ready)

        def ask(app: App) -> int:
            body = {"prompt": "Once", "max_tokens": 120, "ignore_eos": True}
            return httpx.post(
                f"{app.url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False
            ).status_code

        # a window of a minute can end between two requests: then the count begins again
        answers = [ask(apps[number % 2]) for number in range(8)]
        assert answers[:2] == [200, 200]
        assert 429 in answers
        assert answers.count(200) <= 6
        last = answers.index(429)
        assert ask(apps[last % 2]) == ask(apps[1 - last % 2])
        redis.end()
        assert ask(apps[0]) == 200  # without Redis, it counts from zero
        redis.process = redis.start()
    finally:
        for app in apps:
            app.process.kill()
            app.process.wait()
