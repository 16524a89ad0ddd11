"""Sees whether any file of a folder is opened, by any code: Linux's inotify.

Python's audit hooks see only what Python opens, and weights are opened by Rust and C++.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

IN_OPEN = 0x20
IN_ISDIR = 0x4000_0000
_HEAD = struct.Struct("iIII")


class Watch:
    """Counts the openings of the files in a folder from now on."""

    def __init__(self, folder: Path) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        if library.inotify_add_watch(self._descriptor, os.fsencode(folder), IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")

    def opened(self) -> list[str]:
        """The names of the files that were opened since the last call."""
        names = []
        try:
            events = os.read(self._descriptor, 1 << 20)
        except BlockingIOError:
            return []
        while events:
            _, mask, _, length = _HEAD.unpack_from(events)
            name = events[_HEAD.size : _HEAD.size + length].rstrip(b"\0")
            if not mask & IN_ISDIR:
                names.append(os.fsdecode(name))
            events = events[_HEAD.size + length :]
        return names

    def close(self) -> None:
        os.close(self._descriptor)
