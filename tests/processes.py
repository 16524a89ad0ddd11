"""Programs that tests start: `app.py` on a port of its own, and its engine process."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tests.waiting import PATIENCE, eventually

ROOT = Path(__file__).resolve().parent.parent
PORTS = range(20_000, 32_000)  # below those that Linux gives to outgoing connections
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
OWN_PORTS = PORTS[WORKER::WORKERS]  # no other worker of pytest-xdist draws from these


def free_port() -> int:
    """A port of 127.0.0.1 that no program listens on."""
    while True:
        port = random.SystemRandom().choice(OWN_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def http_status(url: str) -> int | None:
    """The status that a GET is answered with; None if no server answers."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def read_metrics(text: str) -> dict[str, float]:
    """The values of a response of /metrics, by name and labels."""
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def is_running(process: psutil.Process) -> bool:
    """Whether a process is there and not only waits to be reaped."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class App:
    """`python app.py` in a process of its own.

    `launcher` is a command that runs the rest of its command line, such as `env`.
    """

    def __init__(
        self,
        *flags: str,
        environment: dict[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [*launcher, sys.executable, "app.py", "--server-port", str(port), *flags]
        self._environment = {**os.environ, **(environment or {})}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=ROOT, env=self._environment)

    def restart(self) -> None:
        """Start the program again, at the same address, after it has ended."""
        self.process = self._start()

    def is_up(self) -> bool:
        """Whether the server answers; fails if the program has ended."""
        assert self.process.poll() is None, "app.py ended"
        return http_status(f"{self.url}/healthz") == 200

    def is_ready(self) -> bool:
        """Whether the engine takes requests."""
        return http_status(f"{self.url}/readyz") == 200

    def wait_until_ready(self) -> None:
        eventually(self.is_up)
        eventually(self.is_ready)

    def metrics(self) -> dict[str, float]:
        """What /metrics returns, by name and labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as answer:
            return read_metrics(answer.read().decode())

    def count_open(self) -> int:
        """The slots that are held and the requests that are open, by the metrics."""
        metrics = self.metrics()
        return int(metrics["gptj_streams_running"] + metrics["gptj_requests_open"])

    @property
    def engine(self) -> psutil.Process:
        """The engine process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c for c in children if "gptj_demo.engine" in c.cmdline())

    def pause_engine_at_start(self) -> None:
        """Stop the engine before it can have loaded its model."""

        def find_engine() -> psutil.Process | None:
            assert self.process.poll() is None, "app.py ended"
            with contextlib.suppress(StopIteration, psutil.NoSuchProcess):
                return self.engine
            return None

        engine = eventually(find_engine)
        assert engine is not None
        engine.suspend()

    def pause_engine(self) -> None:
        """Stop the engine in the middle of its streams, so that none can end by itself."""
        self.engine.send_signal(signal.SIGSTOP)

    def resume_engine(self) -> None:
        self.engine.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the engine inside the block, so that no text grows or ends there."""
        self.pause_engine()
        try:
            yield
        finally:
            self.resume_engine()

    def stop(self) -> None:
        """Interrupt the program and wait until it has ended."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE)
