"""Runs one engine on a machine of a cluster, and connects it to the web process.

A Ray Serve deployment of `Host` is a fleet: Serve places its replicas on machines, replaces those
whose `check_health` fails, and ends surplus ones.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection

from gptj_demo.client.backends.calling import READY, Hello, Offer, Welcome, call
from gptj_demo.client.backends.connections import hang_up
from gptj_demo.client.backends.local import spawn_engine
from gptj_demo.software import code_version

logger = logging.getLogger(__name__)

CALLING_SECONDS = 60.0
"""How long to retry while the web process does not answer."""


class Host:
    """One engine, from its start until it or the web process ends.

    The constructor returns when the engine is ready, so in an update, Ray keeps an old engine until
    the new one can answer. It raises `RuntimeError` if the engine ends before that. Later it
    calls `give_up` if the web process cannot be reached, and `leave` if the engine ends.
    """

    def __init__(
        self,
        offer: Offer,
        give_up: Callable[[], None] | None = None,
        leave: Callable[[], None] | None = None,
    ) -> None:
        self._offer, self._give_up, self._leave = offer, give_up, leave
        self._control: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = threading.Event()
        self._ended: str | None = None
        # The kernel ends an engine with the thread that started it, so a separate thread starts it.
        threading.Thread(target=self._run, name="engine", daemon=True).start()
        self._is_ready.wait()
        self.check_health()

    def check_health(self) -> None:
        """Raise `RuntimeError` if the engine has ended."""
        if self._ended is not None:
            raise RuntimeError(self._ended)

    def __del__(self) -> None:
        """Serve calls it before it ends a replica."""
        if self._process is not None:
            self._process.kill()

    def _run(self) -> None:
        try:
            self._ended = f"the engine ended with code {self._run_engine()}"
        except (OSError, EOFError, AuthenticationError, PermissionError) as error:
            self._ended = f"the web process cannot be reached: {error}"
        finally:
            self._ended = self._ended or "the engine could not be started"
            logger.warning("%s", self._ended)
            if self._is_ready.is_set() and self._leave is not None:
                self._leave()
            self._is_ready.set()

    def _run_engine(self) -> int:
        """Start the engine and wait until it ends; returns its exit code."""
        control = self._control = self._call()
        answered = control.recv()
        if not isinstance(answered, Welcome):
            raise PermissionError(str(answered))
        with call(self._offer, answered.number) as connection:
            self._process = spawn_engine(connection.fileno())
        threading.Thread(target=self._obey, args=(control,), daemon=True).start()
        code = self._process.wait()
        with contextlib.suppress(OSError):
            control.send(code)
        hang_up(control)
        return code

    def _call(self) -> Connection:
        """Connect to the web process, retrying for `CALLING_SECONDS`; raises `OSError`."""
        hello = Hello(socket.gethostname(), code_version())
        end = time.monotonic() + CALLING_SECONDS
        while True:
            try:
                return call(self._offer, hello)
            except OSError:
                if time.monotonic() > end:
                    if self._give_up is not None:
                        self._give_up()
                    raise
            time.sleep(1)

    def _obey(self, control: Connection) -> None:
        """Read the messages of the web process; end the engine when it closes the connection."""
        with contextlib.suppress(EOFError, OSError):
            while control.recv() == READY:
                self._is_ready.set()
        if self._process is not None:
            self._process.kill()
