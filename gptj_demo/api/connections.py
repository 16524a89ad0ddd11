"""Ends connections that hold resources without progress, and bounds how many there are.

The head and the body of a request each have a time limit. A client that reads nothing from a full
buffer is disconnected, which ends its request. If there are too many connections, an idle one of
the address with the most idle ones is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from functools import partial
from typing import Any, Literal

from uvicorn.protocols.http.h11_impl import H11Protocol

from gptj_demo.client.visitor import network_of

HEAD_SECONDS = 20.0
"""For the whole head of a request, from its first byte or the opening of the connection."""
BODY_SECONDS = 60.0
STALL_SECONDS = 30.0
"""How long a client may read nothing from a full buffer (64 KiB)."""
MAX_CONNECTIONS = 2048
SPARE_FILES = 128
"""File descriptors that are left for everything except connections."""

Phase = Literal["head", "body", "answer"]


class Connections:
    """The open connections of a server."""

    def __init__(self, most: int | None = None) -> None:
        self.most = _most_connections() if most is None else most
        self._open: dict[GuardedProtocol, str] = {}  # with their addresses, oldest first

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: GuardedProtocol, address: str) -> None:
        """Add a connection; if there are too many, ends an idle one, or else the new one."""
        self._open[connection] = address
        if len(self._open) > self.most:
            ended = self._most_dispensable() or connection
            del self._open[ended]
            ended.transport.abort()

    def remove(self, connection: GuardedProtocol) -> None:
        """Forget a closed connection."""
        self._open.pop(connection, None)

    def _most_dispensable(self) -> GuardedProtocol | None:
        """The oldest idle connection of the address that has the most of them."""
        idle = [one for one in self._open if one.phase == "head"]
        if not idle:
            return None
        address = Counter(self._open[one] for one in idle).most_common(1)[0][0]
        return next(one for one in idle if self._open[one] == address)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with time limits; made by `guarded`."""

    def __init__(self, open_connections: Connections, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._open_connections = open_connections
        self._timed: tuple[Phase, Any] | None = None  # what the timer is for
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def phase(self) -> Phase:
        """What the connection waits for: a request's head, its body, or the answer's end."""
        if self.cycle is None or self.cycle.response_complete:
            return "head"
        return "body" if self.cycle.more_body else "answer"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _end_dead_readers(transport)
        self._set_timer()
        self._open_connections.add(self, network_of(self.client[0] if self.client else "unknown"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.remove(self)
        for timer in (self._timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._set_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _set_timer(self) -> None:
        """Limit the time for the present phase; more data of the same phase gets no more time."""
        now = (self.phase, self.cycle)
        if now == self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed, self._timer = now, None
        if now[0] != "answer":
            seconds = HEAD_SECONDS if now[0] == "head" else BODY_SECONDS
            self._timer = self.loop.call_later(seconds, self._end_if_still, now)

    def _end_if_still(self, timed: tuple[Phase, Any]) -> None:
        self._timed = None
        if (self.phase, self.cycle) == timed and not self.transport.is_closing():
            self.transport.abort()


def guarded(open_connections: Connections | None = None) -> Any:
    """The protocol for uvicorn's setting `http`."""
    if open_connections is None:
        open_connections = Connections()
    return partial(GuardedProtocol, open_connections)


def _end_dead_readers(transport: asyncio.Transport) -> None:
    """Let the system end a connection whose peer acknowledges nothing, also after its last byte."""
    connection = transport.get_extra_info("socket")
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if connection is not None and option is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, int(2 * STALL_SECONDS * 1000))


def _most_connections() -> int:
    """As many as the process may have files open, with some to spare."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MAX_CONNECTIONS
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(16, min(MAX_CONNECTIONS, files - SPARE_FILES))
