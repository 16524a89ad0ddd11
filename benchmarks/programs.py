"""Programs in child processes, and requests to a running playground."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from common import POLL_SECONDS, ROOT, wait_for


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


class Program:
    """A Python program in a child process; its output is kept for error messages."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._command = command
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False", **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, condition: Callable[[], Any], every: float = POLL_SECONDS) -> float:
        """Seconds until `condition` holds; exits with the program's output if it has ended."""

        def holds() -> bool:
            if self.process.poll() is not None:
                self._said.seek(0)
                said = self._said.read()[-2000:].decode(errors="replace")
                raise SystemExit(f"{' '.join(self._command)} ended:\n{said}")
            try:
                return bool(condition())
            except (OSError, HTTPException):  # its server is not up yet
                return False

        return wait_for(holds, every)

    def wait_until_up(self, url: str) -> float:
        """Seconds until its server answers."""
        return self.wait_for(lambda: answers(url))

    def wait_until_ready(self, url: str) -> float:
        """Seconds until a playground's model answers."""
        return self.wait_for(lambda: gradio_status(url)["state"] == "ready", every=0.05)

    def end(self) -> None:
        """End it and its children."""
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._said.close()


@contextlib.contextmanager
def running_program(*command: str, **environment: str) -> Iterator[Program]:
    """A Python program, ended on exit."""
    program = Program(*command, **environment)
    try:
        yield program
    finally:
        program.end()


class Playground(NamedTuple):
    """A running playground."""

    url: str
    pid: int


@contextlib.contextmanager
def running_playground(
    model: Path | str, *flags: object, **environment: str
) -> Iterator[Playground]:
    """`python app.py` with a model that is ready, ended on exit."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    given = map(str, ("--model", model, "--server-port", port, *flags))
    with running_program("app.py", *given, **environment) as program:
        program.wait_until_up(url)
        program.wait_until_ready(url)
        yield Playground(url, program.process.pid)


def anonymous_memory(pid: int) -> int:
    """Bytes of a process's anonymous memory, without the files that it maps; 0 if it has ended."""
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        if "RssAnon" in fields:  # absent for one that has just ended
            return 1024 * sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem"))
    return 0


def gradio_status(url: str) -> dict[str, Any]:
    """The playground's status, through the page's API."""
    call = f"{url}/gradio_api/call/status"
    request = urllib.request.Request(call, b'{"data": []}', {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}", timeout=10) as answer:
        lines = [line for line in answer if line.startswith(b"data: [")]
    if not lines:
        raise ConnectionError(f"{url} did not tell its status")
    return dict(json.loads(lines[-1][6:])[0])


def api_arguments(url: str, **given: Any) -> list[Any]:
    """The arguments of a site's `/generate`, in order; defaults for those not given."""
    with urllib.request.urlopen(f"{url}/gradio_api/info", timeout=10) as answer:
        parameters = json.load(answer)["named_endpoints"]["/generate"]["parameters"]
    return [given.get(p["parameter_name"], p.get("parameter_default")) for p in parameters]
