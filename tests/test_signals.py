"""SIGINT and SIGTERM end the programs, whatever signal handling they inherit."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.engine.checkpoints import make_checkpoint
from tests.processes import ROOT, App, is_running
from tests.waiting import PATIENCE, eventually

# how a script starts a background job, and how a container starts its only program
IGNORING = ("sh", "-c", 'trap "" INT TERM; exec "$@"', "sh")
AS_PROCESS_1 = ("unshare", "--map-root-user", "--pid", "--fork")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"), n_positions=2048)


@contextmanager
def started(folder: Path, launcher: tuple[str, ...], *flags: str) -> Iterator[App]:
    """The program; processes that are left at the end are killed."""
    app = App("--model", str(folder), *flags, launcher=launcher)
    try:
        yield app
    finally:
        if app.process.poll() is None:
            for child in psutil.Process(app.process.pid).children(recursive=True):
                child.kill()
            app.process.kill()
            app.process.wait()


def program(app: App) -> psutil.Process:
    """The process that runs app.py, which may be a child of the launcher."""
    process = psutil.Process(app.process.pid)
    family = [process, *process.children(recursive=True)]
    return next(one for one in family if one.cmdline()[1:2] == ["app.py"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_when_it_was_started_with_signals_ignored(
    folder: Path, number: signal.Signals
) -> None:
    with started(folder, IGNORING) as app:
        app.wait_until_ready()
        engine = app.engine
        app.process.send_signal(number)
        assert app.process.wait(PATIENCE) == 0
        eventually(lambda: not is_running(engine))


def test_the_server_stops_while_the_model_loads(folder: Path) -> None:
    with started(folder, IGNORING) as app:
        app.pause_engine_at_start()
        eventually(app.is_up)
        engine = app.engine
        app.process.send_signal(signal.SIGTERM)
        assert app.process.wait(PATIENCE) == 0
        eventually(lambda: not is_running(engine))


def can_start_process_1() -> bool:
    if shutil.which(AS_PROCESS_1[0]) is None:
        return False
    return subprocess.run([*AS_PROCESS_1, "true"], stderr=subprocess.DEVNULL).returncode == 0


async def last_events(url: str, count: int, stop: Callable[[], None]) -> list[str]:
    """The last event of each of `count` streams; `stop` is called when all have begun."""
    body = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    begun = 0

    async def read(client: httpx.AsyncClient) -> str:
        async with client.stream("POST", "/v1/completions", json=body) as response:
            lines = [line async for line in count_first(response.aiter_lines())]
        return [line for line in lines if line][-1]

    async def count_first(lines: AsyncIterator[str]) -> AsyncIterator[str]:
        nonlocal begun
        yield await anext(lines)
        begun += 1
        if begun == count:
            stop()
        async for line in lines:
            yield line

    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(
        base_url=url, timeout=PATIENCE, limits=limits, trust_env=False
    ) as client:
        return await asyncio.gather(*(read(client) for _ in range(count)))


@pytest.mark.skipif(not can_start_process_1(), reason="needs the right to make a PID namespace")
def test_the_server_stops_as_process_1_of_a_container_and_ends_every_stream(
    folder: Path,
) -> None:
    with started(folder, AS_PROCESS_1, "--drain-seconds", "0.5") as app:
        app.wait_until_ready()
        engine = app.engine
        stop = partial(program(app).send_signal, signal.SIGTERM)
        events = asyncio.run(last_events(app.url, 16, stop))
        assert all(event == "data: [DONE]" or "shutting down" in event for event in events)
        assert app.process.wait(PATIENCE) == 0
        eventually(lambda: not is_running(engine))


def test_the_engine_ignores_sigint_and_sigterm(folder: Path) -> None:
    with started(folder, ()) as app:
        app.wait_until_ready()
        engine = app.engine
        engine.send_signal(signal.SIGINT)
        engine.send_signal(signal.SIGTERM)
        answer = httpx.post(
            f"{app.url}/v1/completions",
            json={"prompt": "x", "max_tokens": 1},
            timeout=PATIENCE,
            trust_env=False,
        )
        assert answer.status_code == 200
        assert app.engine == engine


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_stops_when_it_was_started_with_signals_ignored(
    folder: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "gptj_demo", "x", "--max-new-tokens", "2000", "--ignore-eos"]
    with subprocess.Popen(
        [*IGNORING, *command, "--model", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as terminal:
        try:
            assert terminal.stdout is not None
            assert terminal.stdout.read(1)
            (engine,) = psutil.Process(terminal.pid).children()
            engine.suspend()  # else the text may end before the signal arrives
            terminal.send_signal(number)
            _, errors = terminal.communicate(timeout=PATIENCE)
            assert terminal.returncode == code
            assert b"Traceback" not in errors
            eventually(lambda: not is_running(engine))
        finally:
            terminal.kill()


def test_running_requests_end_and_new_ones_are_refused_while_the_server_drains(
    folder: Path,
) -> None:
    with started(folder, ()) as app:
        app.wait_until_ready()
        body = {"prompt": "x", "max_tokens": 1500, "ignore_eos": True, "stream": True}
        several = {"prompt": ["x"] * 16, "max_tokens": 8}
        with (
            httpx.Client(base_url=app.url, timeout=PATIENCE, trust_env=False) as client,
            ThreadPoolExecutor() as pool,
        ):
            with client.stream("POST", "/v1/completions", json=body) as response:
                lines = response.iter_lines()
                next(lines)
                engine = app.engine
                engine.suspend()
                parts = pool.submit(client.post, "/v1/completions", json=several)
                # the other eight of the sixteen are queued when these have started
                eventually(lambda: "gptj_requests_waiting 8" in client.get("/metrics").text)
                app.process.send_signal(signal.SIGTERM)
                eventually(lambda: client.get("/readyz").json()["status"] == "draining")
                refused = client.post("/v1/completions", json={"prompt": "x", "max_tokens": 1})
                engine.resume()
                *_, last = (line for line in lines if line)
            assert len(parts.result().json()["choices"]) == 16
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert "shutting down" in refused.json()["error"]["message"]
            assert last == "data: [DONE]"
        assert app.process.wait(PATIENCE) == 0


def test_requests_that_do_not_end_in_time_get_an_error(folder: Path) -> None:
    app = App("--model", str(folder), "--drain-seconds", "0.5")
    try:
        app.wait_until_ready()
        engine = app.engine
        body = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True}
        with httpx.stream(
            "POST", f"{app.url}/v1/completions", json=body, timeout=PATIENCE, trust_env=False
        ) as response:
            lines = response.iter_lines()
            next(lines)
            engine.suspend()  # else it might end in time
            app.process.send_signal(signal.SIGTERM)
            *_, last = (line for line in lines if line)
        assert "shutting down" in json.loads(last.removeprefix("data: "))["error"]["message"]
        assert app.process.wait(PATIENCE) == 0
        eventually(lambda: not is_running(engine))
    finally:
        app.stop()


def test_an_engine_that_is_stopped_ends_with_its_server(folder: Path) -> None:
    with started(folder, ()) as app:
        app.wait_until_ready()
        engine = app.engine
        engine.suspend()
        app.process.kill()
        eventually(lambda: not is_running(engine))
