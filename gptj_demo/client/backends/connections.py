"""A time limit for a connection of `multiprocessing`, and an end that wakes other threads."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from multiprocessing.connection import Connection


def limit(connection: Connection, seconds: float) -> None:
    """Limit the time of each read and write, which then raises `BlockingIOError`; 0 is no limit.

    A message that stays incomplete would block its reader for ever.
    """
    whole, rest = divmod(seconds, 1)
    value = struct.pack("ll", int(whole), int(rest * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


def hang_up(connection: Connection) -> None:
    """End a connection at once, even if another process or thread uses it.

    What has arrived can still be read. Closing its file descriptor would not wake a thread that
    reads or writes.
    """
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(connection.fileno())) as ours,
    ):
        ours.shutdown(socket.SHUT_RDWR)
