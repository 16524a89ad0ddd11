"""How an engine on another machine connects to the web process, at both ends.

Its host there calls twice over TCP, each time proving that it has the key: first for itself
(`Hello`, answered by `Welcome` or a sentence), then for the engine, whose process inherits the
second connection, so that the messages pass nobody else. On the first one the web process says
that the engine is ready (`READY`), and the host says how it ended (an exit code). The web process
ends the engine by closing the first connection. Nothing is encrypted: the network between them must
be trusted, as that of a Ray cluster is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge

CALL_SECONDS = 10
"""For each message of a call."""
READY = "ready"
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A machine that is gone is noticed after 30 seconds, where the system has these options."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Where the web process listens, and the key that it made for its engines."""

    host: str
    port: int
    key: bytes
    code: str
    """The version of the code that engines must run; see `software.code_version`."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A host calls: the name of its machine, and the version of its code."""

    node: str
    code: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """The number with which the host's engine calls."""

    number: int


def call(offer: Offer, first: object) -> Connection:
    """Call the web process, and say `first`; raises `OSError` or `AuthenticationError`."""
    connection = Client((offer.host, offer.port), authkey=offer.key)
    _configure(connection)
    connection.send(first)
    return connection


def answer(calling: socket.socket, key: bytes) -> tuple[Connection, object]:
    """The connection of a caller that has the key, and what it said first; raises `OSError`,
    `EOFError` or `AuthenticationError`."""
    connection = Connection(calling.detach())
    try:
        _configure(connection)
        _limit(connection, CALL_SECONDS)  # a caller that says nothing holds no thread
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        first = connection.recv()
        _limit(connection, 0)
    except BaseException:
        connection.close()
        raise
    return connection, first


def hang_up(connection: Connection) -> None:
    """End a connection at once, also where another process or thread uses it."""
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as ours,
    ):
        ours.shutdown(socket.SHUT_RDWR)


def _configure(connection: Connection) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                ours.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _limit(connection: Connection, seconds: int) -> None:
    """Limit the time of each read and write; 0 is no limit."""
    limit = struct.pack("ll", seconds, 0)
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
