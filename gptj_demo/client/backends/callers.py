"""Accepts the connections of hosts and their engines, and pairs the two that belong together."""

from __future__ import annotations

import contextlib
import itertools
import logging
import secrets
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection

from gptj_demo.client.backends.calling import Hello, Offer, Welcome, answer
from gptj_demo.software import code_version

logger = logging.getLogger(__name__)

KEY_BYTES = 32
MOST_HOSTS = 64
"""The most hosts that may be connected while their engines are not."""

Serve = Callable[[int, str, Connection, Connection], None]
"""Serves an engine until it ends; takes its number, its machine, its host's connection, its own."""


class Callers:
    """Listens from `listen` to `stop`, and runs `serve` in a thread for each engine."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._key = secrets.token_bytes(KEY_BYTES)
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._hosts: OrderedDict[int, tuple[str, Connection]] = OrderedDict()
        self._listener: socket.socket | None = None
        self._is_stopped = False

    def listen(self, host: str) -> Offer:
        """Listen on the address; returns what hosts need to connect."""
        listener = socket.create_server((host, 0))
        with self._lock:
            if self._is_stopped:
                listener.close()
            else:
                self._listener = listener
                threading.Thread(
                    target=self._accept, args=(listener,), name="callers", daemon=True
                ).start()
        return Offer(host, listener.getsockname()[1], self._key, code_version())

    def stop(self) -> None:
        """Accept no more connections."""
        with self._lock:
            self._is_stopped = True
            while self._hosts:
                self._hosts.popitem()[1][1].close()
            if self._listener is not None:
                with contextlib.suppress(OSError):
                    self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener:
            while not self._is_stopped:
                calling, _ = listener.accept()
                threading.Thread(
                    target=self._meet, args=(calling,), name="caller", daemon=True
                ).start()

    def _meet(self, calling: socket.socket) -> None:
        """Handle one connection. If it is that of an engine, return when the engine ends."""
        try:
            connection, first = answer(calling, self._key)
        except (OSError, EOFError, AuthenticationError) as error:
            logger.warning("a caller did not prove that it has the key: %s", type(error).__name__)
            return
        if isinstance(first, Hello):
            with contextlib.suppress(OSError):
                self._welcome(connection, first)
            return
        with self._lock:
            node, control = self._hosts.pop(first, ("", None))  # type: ignore[call-overload]
        if control is None:
            connection.close()
        else:
            self._serve(first, node, control, connection)  # type: ignore[arg-type]

    def _welcome(self, control: Connection, hello: Hello) -> None:
        if hello.code != code_version():
            logger.error("an engine on %s has other code than the web process", hello.node)
            control.send("the web process has other code: install the same version on both")
            control.close()
            return
        with self._lock:
            number = next(self._numbers)
            self._hosts[number] = hello.node, control
            if len(self._hosts) > MOST_HOSTS:
                self._hosts.popitem(last=False)[1][1].close()
        control.send(Welcome(number))
