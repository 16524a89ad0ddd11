"""Serve the playground: `python app.py --help` lists the settings."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys

from gptj_demo.settings import parse_flags

SPACES_ADDRESS = "0.0.0.0"


def main() -> None:
    """Read the settings, start the model's process, serve the page until it ends or Ctrl+C."""
    settings = parse_flags("Serve the GPT-J playground: a page to write in, and its API.")
    if os.environ.get("SYSTEM") == "spaces" and "server_name" not in settings.model_fields_set:
        settings = settings.model_copy(update={"server_name": SPACES_ADDRESS})
    if (problem := _port_problem(settings.server_name, settings.server_port)) is not None:
        sys.exit(_refuse(problem))

    from gptj_demo.worker import Worker

    worker = Worker(settings)
    worker.start()  # first: it loads while the page is built
    refusal = None
    gc.disable()  # what imports and page leave behind stays: looking through it is time lost
    try:
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        from gptj_demo.ui.page import build_page, launch_options

        page = build_page(worker)
        page.launch(
            server_name=settings.server_name,
            server_port=settings.server_port,
            prevent_thread_lock=True,
            **launch_options(),
        )
        gc.freeze()
        gc.enable()
        print(f"GPT-J Playground is at {page.local_url}", flush=True)
        refusal = worker.wait()
    except KeyboardInterrupt:
        pass
    finally:
        worker.stop()
    if refusal is not None:
        sys.exit(_refuse(refusal))


def _refuse(message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return 2


def _port_problem(name: str, port: int) -> str | None:
    """Why the address cannot be listened on, in a sentence; None where it can."""
    try:
        address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return f"The address {name!r} cannot be listened on: {error.strerror}."
    with socket.socket(address[0]) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address[4])
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return (
                    f"Port {port} is in use by another program. Stop it, or choose another port "
                    "with --server-port."
                )
            return f"{name} port {port} cannot be listened on: {error.strerror}."
    return None


if __name__ == "__main__":
    main()
