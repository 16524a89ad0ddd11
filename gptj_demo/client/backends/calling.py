"""How an engine on another machine connects to the web process, at both ends.

The engine's host connects twice over TCP and proves each time that it has the key. On the first
connection it sends `Hello` and gets `Welcome` or an error message. Later the web process sends
`READY` on it when the engine is ready, and the host sends the engine's exit code. The web process
ends the engine by closing the first connection. The engine's process inherits the second
connection, so its messages pass through no other process. Nothing is encrypted: the network must be
trusted, like that of a Ray cluster.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge

from gptj_demo.client.backends.connections import limit

CALL_SECONDS = 10
"""The time limit for each message of the handshake."""
READY = "ready"
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""The loss of a machine is noticed after 30 seconds, where the system has these options."""


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
    """The first message of a host: the name of its machine and the version of its code."""

    node: str
    code: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `Hello`: the number that the host's engine sends when it connects."""

    number: int


def call(offer: Offer, first: object) -> Connection:
    """Connect to the web process and send `first`; raises `OSError` or `AuthenticationError`."""
    connection = Client((offer.host, offer.port), authkey=offer.key)
    _configure(connection)
    connection.send(first)
    return connection


def answer(calling: socket.socket, key: bytes) -> tuple[Connection, object]:
    """Check a caller's key; returns its connection and its first message. Raises `OSError`,
    `EOFError` or `AuthenticationError`."""
    connection = Connection(calling.detach())
    try:
        _configure(connection)
        limit(connection, CALL_SECONDS)  # a silent caller must not block the thread
        deliver_challenge(connection, key)
        answer_challenge(connection, key)
        first = connection.recv()
        limit(connection, 0)
    except BaseException:
        connection.close()
        raise
    return connection, first


def _configure(connection: Connection) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                ours.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
