"""Sends messages to an engine in a thread of its own, so that its full buffer blocks no caller."""

from __future__ import annotations

import contextlib
import queue
import threading
from multiprocessing.connection import Connection

from gptj_demo.client.backends.connections import hang_up

_END = object()


class Outbox:
    """The messages to one engine, which are sent in order; the connection belongs to it.

    An engine that hangs reads nothing, and a write to its connection blocks. An engine that has
    died is noticed by whoever reads from the connection. Thread-safe.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="outbox", daemon=True)
        self._thread.start()

    def put(self, message: object) -> None:
        """Send a message after those before it; returns at once."""
        self._messages.put(message)

    def hang_up(self) -> None:
        """End the connection at once. Must not be called after `close`."""
        hang_up(self._connection)

    def close(self) -> None:
        """End the connection, and close it once nothing is being written."""
        self.hang_up()
        self._messages.put(_END)
        self._thread.join()  # before the file descriptor can be reused
        self._connection.close()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._messages.get()) is not _END:
                self._connection.send(message)
