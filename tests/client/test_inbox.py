"""Messages from an engine that stops while it sends one."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from gptj_demo.client import Worker, watch
from gptj_demo.client.backends import local
from gptj_demo.client.backends.connections import limit
from gptj_demo.client.backends.inbox import Inbox
from gptj_demo.protocol import Heartbeat
from gptj_demo.settings import Settings
from tests.client.parts import beginning, rest
from tests.waiting import PATIENCE, eventually, in_time

LARGE = "x" * 4_000_000
"""More than the buffers of a connection hold."""


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """The two ends of a connection: ours and the engine's."""
    ours, theirs = (Connection(one.detach()) for one in socket.socketpair())
    with ours, theirs:
        yield ours, theirs


def test_messages_of_all_sizes_arrive_in_their_order(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    sent = [None, "", *range(1000), LARGE, 1, LARGE, LARGE, "x" * 20_000, 2]
    sending = threading.Thread(target=lambda: [theirs.send([one]) for one in sent])
    sending.start()
    inbox = Inbox(ours)
    assert in_time(lambda: [inbox.receive(PATIENCE) for _ in sent]) == [[one] for one in sent]
    sending.join()
    assert inbox.receive(0) is None


def test_a_message_is_returned_once_it_is_complete(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    inbox = Inbox(ours)
    for part in (beginning("one")[:2], beginning("one")[2:]):
        os.write(theirs.fileno(), part)
        assert in_time(lambda: inbox.receive(0)) is None
    os.write(theirs.fileno(), rest("one") + beginning("two"))
    assert inbox.receive(0) == "one"
    assert in_time(lambda: inbox.receive(0)) is None
    os.write(theirs.fileno(), rest("two"))
    assert inbox.receive(0) == "two"


def test_an_engine_that_ends_amid_a_message_has_ended(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    inbox = Inbox(ours)
    theirs.send("whole")
    os.write(theirs.fileno(), beginning("a part"))
    theirs.close()
    assert inbox.receive(0) == "whole"
    with pytest.raises(EOFError):
        inbox.receive(0)


def test_a_message_with_a_size_that_no_message_has_is_an_error(
    ends: tuple[Connection, Connection],
) -> None:
    ours, theirs = ends
    os.write(theirs.fileno(), b"\xff" * 4 + b"\0" * 8)
    with pytest.raises(OSError, match="2 GiB"):
        Inbox(ours).receive(0)


def test_an_engine_that_stops_amid_a_message_is_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watch, "SILENCE_WHILE_LOADING", 0.1)
    stopped: list[subprocess.Popen[bytes]] = []

    def spawn(descriptor: int) -> subprocess.Popen[bytes]:
        os.write(descriptor, beginning(Heartbeat(None)))
        stopped.append(subprocess.Popen(["sleep", "1000"], pass_fds=[descriptor]))
        return stopped[-1]

    monkeypatch.setattr(local, "spawn_engine", spawn)
    worker = Worker(Settings(model="sample"))
    worker.start()
    try:
        eventually(lambda: worker.restarts)
        assert stopped[0].poll() == -9
        assert "it sent no message for" in str(worker.status.detail)
    finally:
        for one in stopped:
            one.kill()
        in_time(worker.stop)


def test_a_limit_ends_reads_and_writes(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    limit(ours, 0.01)
    os.write(theirs.fileno(), beginning("a part"))
    for blocked in (ours.recv, lambda: ours.send(LARGE)):
        with pytest.raises(BlockingIOError):
            in_time(blocked)
