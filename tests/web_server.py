"""A web application that a thread of this process serves on a port of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import uvicorn

from tests.processes import free_port
from tests.waiting import PATIENCE, eventually


class WebServer(uvicorn.Server):
    """Serves `app` from `start` to `stop`; `stop` closes all connections, as a process's end does.

    uvicorn waits up to `grace` seconds for open responses, and leaves the connections open that
    it accepted meanwhile: a caller would wait for an answer on them.
    """

    def __init__(self, app: Any, *, port: int = 0, grace: int = 0, lifespan: str = "off") -> None:
        self.port = port or free_port()
        super().__init__(
            uvicorn.Config(
                app,
                port=self.port,
                log_level="critical",
                lifespan=lifespan,  # type: ignore[arg-type]
                timeout_graceful_shutdown=grace,
            )
        )
        self._thread = threading.Thread(target=self.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        eventually(lambda: self.started)

    def stop(self) -> None:
        self.should_exit = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.sleep(0)  # the transports close their sockets in the next turn
