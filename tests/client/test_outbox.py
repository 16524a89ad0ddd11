"""Messages to an engine that reads them late, or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from gptj_demo.client.backends import local
from gptj_demo.client.backends.outbox import Outbox
from gptj_demo.protocol import Cancel
from gptj_demo.settings import Settings
from tests.waiting import in_time

LARGE = b"x" * 4_000_000
"""More than the buffers of a connection hold."""


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    """The two ends of a connection: ours, which the outbox closes, and the engine's."""
    ours, theirs = (Connection(one.detach()) for one in socket.socketpair())
    yield ours, theirs
    theirs.close()


def test_messages_arrive_in_their_order(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    outbox = Outbox(ours)
    for number in range(5):
        outbox.put((number, LARGE))
    assert [theirs.recv()[0] for _ in range(5)] == list(range(5))
    outbox.close()
    with pytest.raises(EOFError):
        theirs.recv()


def test_an_engine_that_reads_nothing_blocks_neither_the_caller_nor_the_end(
    ends: tuple[Connection, Connection],
) -> None:
    ours, _ = ends
    outbox = Outbox(ours)
    in_time(lambda: [outbox.put(LARGE) for _ in range(5)])
    in_time(outbox.close)
    assert ours.closed


def test_an_engine_that_has_died_is_no_error(ends: tuple[Connection, Connection]) -> None:
    ours, theirs = ends
    theirs.close()
    outbox = Outbox(ours)
    outbox.put(LARGE)
    in_time(outbox.close)


def test_requests_to_a_stopped_engine_return_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop sends them, so a full buffer would stop the page and the API."""
    silent: list[int] = []  # the descriptor of an engine that reads nothing
    monkeypatch.setattr(local, "spawn_engine", lambda theirs: silent.append(os.dup(theirs)))
    backend = local.LocalBackend(Settings(model="sample"))
    backend.start()
    in_time(lambda: [backend.send(Cancel(number), None) for number in range(100_000)])
    events = backend.events()
    backend.stop()
    in_time(lambda: list(events))
    os.close(silent[0])
