"""Runs the engine as a child process, over a socket pair.

The engine is a program of its own (`python -m gptj_demo.engine`), so that the page works while the
weights load, a crash of the model does not end the page, and the model's loop does not share the
interpreter lock with the open streams. If this process dies in any way, the socket closes and the
engine ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from multiprocessing.connection import Connection
from pathlib import Path

from gptj_demo.client.backends.base import EXIT_SECONDS, EngineMessage, Health, LeaseState
from gptj_demo.client.backends.inbox import Inbox
from gptj_demo.client.backends.outbox import Outbox
from gptj_demo.protocol import Cancel, Submit, Visitor
from gptj_demo.served import LOST
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message

POLL_SECONDS = 1.0  # the longest wait for a message


class LocalBackend:
    """The engine in a child process; see `base.Backend`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._outbox: Outbox | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            process, connection = spawn_engine(theirs.fileno()), Connection(ours.detach())
        outbox = Outbox(connection)
        outbox.put(self._settings)
        with self._lock:
            self._process, self._connection, self._outbox = process, connection, outbox

    def send(self, message: Submit | Cancel, visitor: Visitor | None) -> None:
        with self._lock:
            if self._outbox is not None:
                self._outbox.put(message)

    def events(self) -> Generator[EngineMessage | None, None, None]:
        connection, outbox = self._connection, self._outbox
        if connection is None or outbox is None:
            raise RuntimeError("start an engine first")
        inbox = Inbox(connection)
        try:
            while True:
                try:
                    message = inbox.receive(POLL_SECONDS)
                except (EOFError, OSError):
                    return
                yield message
        finally:
            with self._lock:
                self._connection = self._outbox = None
            outbox.close()  # which ends an engine that still runs

    def wait(self) -> Message:
        process = self._process
        if process is None:
            return message("exit.not_started")
        try:
            code = process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self._process = None
        return describe_exit(code)

    def health(self) -> Health:
        process = self._process
        return Health(None if process is None else process.pid)

    def lease(self, visitor: Visitor | None) -> LeaseState | None:
        return None

    def stop(self) -> None:
        with self._lock:
            if self._outbox is not None:
                self._outbox.hang_up()

    def kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()


def spawn_engine(descriptor: int) -> subprocess.Popen[bytes]:
    """Start an engine whose messages go over a connected socket, which it inherits."""
    root = str(Path(__file__).resolve().parents[3])
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        # threads that spin while they wait take the cores that the page needs
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": root if not inherited else root + os.pathsep + inherited,
        "DISABLE_SAFETENSORS_CONVERSION": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gptj_demo.engine", str(descriptor)],
        pass_fds=[descriptor],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a library prints must not reach the terminal's own output
        env=environment,
    )


def describe_exit(code: int) -> Message:
    """How a process ended: its exit code, negative for a signal."""
    if code == LOST:
        return message("exit.server_lost")
    if code >= 0:
        return message("exit.code", code=str(code))
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return message("exit.killed" if name == "SIGKILL" else "exit.signal", signal=name)
    return message("exit.signal", signal=str(-code))
