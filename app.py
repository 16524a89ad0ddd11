"""Serve the playground: `python app.py --help` lists the settings."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from gptj_demo.hosting import is_on_a_space
from gptj_demo.settings import InvalidSettings, Settings, parse_flags
from gptj_demo.signals import ignore_stop_signals, raise_on_stop_signals
from gptj_demo.temporary import choose_gradio_folder

if TYPE_CHECKING:
    import uvicorn

    from gptj_demo.client import Worker

SPACES_ADDRESS = "0.0.0.0"
BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
# few: connections beyond the limit are closed only after all of these are accepted
ACCEPTED_AT_ONCE = 16
KEEP_ALIVE_SECONDS = 75  # longer than most proxies keep a connection, which else meet a closed one
FLUSH_SECONDS = 1  # for the last words to reach those who read them
PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1,fc00::/7"


def main() -> None:
    """Read the settings, start the engine process, serve page and API until SIGINT or SIGTERM."""
    raise_on_stop_signals()
    settings = on_a_space(
        parse_flags("Serve the GPT-J playground: a page to write in, and an API.")
    )
    listener = _listen(settings.server_name, settings.server_port)
    if isinstance(listener, str):
        sys.exit(_refuse(listener))

    from gptj_demo.client import Worker

    try:
        worker = Worker(settings)
    except InvalidSettings as error:
        sys.exit(_refuse(str(error)))
    worker.start()  # first: it loads while the page is built
    refusal = None
    server: _Server | None = None
    gc.disable()  # objects of the imports and the page stay: collecting them wastes time
    try:
        server = _serve(worker, listener)
        gc.freeze()
        gc.enable()
        host = "localhost" if settings.server_name in ("0.0.0.0", "::") else settings.server_name
        host = f"[{host}]" if ":" in host else host
        with contextlib.suppress(OSError):  # a full disk or a closed pipe must not end the server
            print(f"GPT-J Playground is at http://{host}:{settings.server_port}/", flush=True)
        refusal = worker.wait()
    except InvalidSettings as error:
        refusal = str(error)
    except KeyboardInterrupt:
        with contextlib.suppress(KeyboardInterrupt):  # a second signal ends the wait
            worker.drain(settings.drain_seconds)
    finally:
        ignore_stop_signals()  # a third one must not interrupt the clean-up
        worker.stop()
        if server is not None:
            server.stop()
    if refusal is not None:
        sys.exit(_refuse(refusal))


def on_a_space(settings: Settings) -> Settings:
    """The settings with the defaults of a Space, where this is one."""
    if not is_on_a_space():
        return settings
    defaults: dict[str, Any] = {
        "server_name": SPACES_ADDRESS,
        "trusted_proxies": PRIVATE_NETWORKS,
    }
    given = settings.model_fields_set
    return settings.model_copy(update={k: v for k, v in defaults.items() if k not in given})


class _Server:
    """The web server, in a thread of its own, so that the main one is free for signals."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True
        )

    def start(self) -> None:
        """Start to serve; raises `SystemExit` if that fails."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.001)
        if not self._server.started:
            raise SystemExit(1)  # it has said why
        self._listener.listen(BACKLOG)  # asyncio has set it to `ACCEPTED_AT_ONCE`

    def stop(self) -> None:
        """Finish the answers that are under way, and stop."""
        self._server.should_exit = True
        self._thread.join(FLUSH_SECONDS + 1)


def _serve(worker: Worker, listener: socket.socket) -> _Server:
    """Serve page and API."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    choose_gradio_folder()
    import uvicorn

    from gptj_demo.api.access import Access, read_login
    from gptj_demo.api.connections import guarded
    from gptj_demo.api.service import build_service
    from gptj_demo.ui.page import build_page, mount_page
    from gptj_demo.web.failures import configure_logs
    from gptj_demo.web.site import protect

    configure_logs()
    settings = worker.settings
    access = Access(settings)
    app = build_service(worker, access)
    page = build_page(worker, access)
    mount_page(app, page, worker, read_login(settings))
    config = uvicorn.Config(
        protect(app, page, settings),
        log_config=None,  # by the root logger, which writes no message of an exception
        log_level="error",  # warnings are about malformed requests, which anyone can send
        access_log=False,
        proxy_headers=False,  # `protect` reads them
        server_header=False,
        http=guarded(),
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=FLUSH_SECONDS,
    )
    server = _Server(uvicorn.Server(config), listener)
    server.start()
    return server


def _refuse(message: str) -> int:
    with contextlib.suppress(OSError):  # the exit code still says it
        print(message, file=sys.stderr, flush=True)
    return 2


def _listen(name: str, port: int) -> socket.socket | str:
    """A socket that listens on the address; where it cannot, why not, in a sentence.

    It listens at once: with SO_REUSEADDR a second program can bind the port too until one of them
    listens. Connections wait until the server accepts them.
    """
    try:
        address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:  # the latter for a name that is too long
        why = getattr(error, "strerror", None) or "it is not a name"
        return (
            f"Cannot listen on {name}: {why}. Set --server-name to an address of this machine, "
            "such as 127.0.0.1, or 0.0.0.0 for all of them."
        )
    # With the protocol's number: asyncio sets TCP_NODELAY only on sockets that have it. Without it
    # a small answer waits 40 ms for the acknowledgement of its head.
    listener = socket.socket(*address[:3])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address[4])
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return (
                f"Port {port} is in use by another program: stop it, or choose another port "
                "with --server-port."
            )
        hint = ": choose one from 1024 on with --server-port" if port < 1024 else ""
        return f"Cannot listen on {name}:{port}: {error.strerror}{hint}."
    return listener


if __name__ == "__main__":
    main()
