"""Receives messages from an engine, without waiting for the rest of an incomplete one.

`Connection.recv` returns only when the message is complete, so an engine that is suspended while it
sends one would block its reader for ever.
"""

from __future__ import annotations

import os
import pickle
import struct
from multiprocessing.connection import Connection
from typing import Any

READ_BYTES = 2**17

_SIZE = struct.Struct("!i")  # before each message; negative for 2 GiB and more, which none has


class Inbox:
    """The messages of one engine, in their order; nothing else may read from the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._received = bytearray()

    def receive(self, seconds: float) -> Any:
        """The next message, None if nothing arrives for `seconds` before it is complete.

        Raises `EOFError` or `OSError` if the engine can send no more.
        """
        while (message := self._take()) is None:
            if not self._connection.poll(seconds):
                return None
            part = os.read(self._connection.fileno(), READ_BYTES)
            if not part:
                raise EOFError
            self._received += part
        return pickle.loads(message)

    def _take(self) -> bytearray | None:
        """Take the first message if it is complete."""
        if len(self._received) < _SIZE.size:
            return None
        (size,) = _SIZE.unpack_from(self._received)
        if size < 0:
            raise OSError("the engine sent a message of 2 GiB or more")
        end = _SIZE.size + size
        if len(self._received) < end:
            return None
        message = self._received[_SIZE.size : end]
        del self._received[:end]
        return message
