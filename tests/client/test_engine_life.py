"""The engine process: killed, loading, refusing its settings, left alone."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from gptj_demo.client import RequestRefused, Stream, Worker, watch
from gptj_demo.client.backends.local import spawn_engine
from gptj_demo.protocol import GenerationRequest, Reconnecting, StreamEvent, TokenEvent, Waiting
from gptj_demo.settings import Settings
from tests.client.requests import (
    collect,
    ends,
    everything,
    request,
    run,
    started,
    until,
)
from tests.processes import ROOT
from tests.waiting import PATIENCE, eventually


async def begun(worker: Worker, what: GenerationRequest) -> tuple[Stream, list[StreamEvent]]:
    """A stream that generates, and its first events."""
    stream = worker.stream(what)
    return stream, [await anext(stream) for _ in range(5)]


def test_a_stream_survives_its_engine_with_an_unchanged_text(
    worker: Worker,
) -> None:
    what = request(max_new_tokens=1500, ignore_eos=True, logprobs=1)

    async def scenario() -> None:
        alone = await everything(worker, what)
        pid = worker.engine_pid
        assert pid is not None
        stream, events = await begun(worker, what)
        os.kill(pid, signal.SIGSTOP)  # else the text may end before the engine
        os.kill(pid, signal.SIGKILL)
        events += [event async for event in stream]
        assert worker.engine_pid not in (None, pid)
        assert Reconnecting() in events
        assert tokens(events) == tokens(alone)
        assert [e.text for e in ends(events)] == [e.text for e in ends(alone)]

    run(scenario())


def test_an_engine_that_hangs_is_replaced_and_its_streams_go_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = request(max_new_tokens=1500, ignore_eos=True)

    async def scenario() -> None:
        alone = await everything(worker, what)
        pid = worker.engine_pid
        assert pid is not None
        stream, events = await begun(worker, what)
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr(watch, "SILENCE", 0.1)
        await until(lambda: worker.engine_pid != pid)
        monkeypatch.undo()
        events += [event async for event in stream]
        assert tokens(events) == tokens(alone)

    run(scenario())


def test_an_engine_that_cannot_read_a_message_ends() -> None:
    """Without the thread that reads, no request would arrive, and heartbeats would go on."""
    ours, theirs = socket.socketpair()
    with theirs:
        engine = spawn_engine(theirs.fileno())
    connection = Connection(ours.detach())
    try:
        connection.send(Settings(model="sample"))
        connection.send_bytes(b"no pickle")
        assert engine.wait(PATIENCE) == 1
    finally:
        engine.kill()
        engine.wait()
        connection.close()


def tokens(events: list[StreamEvent]) -> list[tuple[int, str, object]]:
    return [(e.token_id, e.text, e.logprobs) for e in events if isinstance(e, TokenEvent)]


def test_requests_made_while_the_model_loads_wait_and_are_answered_in_order(folder: Path) -> None:
    worker = Worker(Settings(model=str(folder), max_num_seqs=1))

    async def scenario() -> None:
        streams = [worker.stream(request(seed=seed)) for seed in range(3)]
        places = [await anext(stream) for stream in streams]
        assert places == [Waiting(0), Waiting(1), Waiting(2)]
        worker.start()
        order: list[int] = []

        async def read(number: int) -> None:
            await started(streams[number])
            order.append(number)
            await streams[number].aclose()

        await asyncio.gather(*(read(number) for number in range(3)))
        assert order == [0, 1, 2]

    try:
        run(scenario())
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("model", "said"),
    [("/no/such/folder", "/no/such/folder"), (str(ROOT / "tests"), "config.json")],
)
def test_settings_that_cannot_work_stop_the_worker_with_a_sentence(model: str, said: str) -> None:
    worker = Worker(Settings(model=model))
    worker.start()
    message = worker.wait()
    assert message is not None
    assert said in message
    assert worker.status.state == "failed"
    with pytest.raises(RequestRefused, match=re.escape(model)) as refusal:
        run(collect(worker, request()))
    assert refusal.value.kind == "unavailable"


def test_an_engine_that_is_killed_twice_while_it_loads_is_given_up(folder: Path) -> None:
    worker = Worker(Settings(model=str(folder)))
    worker.start()
    killed: set[int] = set()

    def kill_the_next() -> bool:
        pid = worker.engine_pid
        if pid is not None and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return worker.status.state == "failed"

    eventually(kill_the_next)
    assert len(killed) == 2
    assert "was killed twice before the model was ready (SIGKILL" in str(worker.wait())


def test_the_engine_ends_when_its_parent_is_killed(folder: Path) -> None:
    """Even a parent that dies without a word leaves no process behind."""
    code = (
        "import sys, time; from gptj_demo.settings import Settings;"
        "from gptj_demo.client import Worker;"
        f"w = Worker(Settings(model={str(folder)!r})); w.start()\n"
        "while w.engine_pid is None: time.sleep(0.01)\n"
        "print(w.engine_pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + PATIENCE
    while _alive(engine) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(engine)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
