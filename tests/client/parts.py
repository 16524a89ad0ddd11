"""The bytes of a message, in two parts."""

from __future__ import annotations

import pickle
import struct


def beginning(message: object) -> bytes:
    """The first bytes that a connection writes for a message."""
    return _whole(message)[:-3]


def rest(message: object) -> bytes:
    """The bytes after `beginning`."""
    return _whole(message)[-3:]


def _whole(message: object) -> bytes:
    pickled = pickle.dumps(message)
    return struct.pack("!i", len(pickled)) + pickled
