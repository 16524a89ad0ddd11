"""More connections at once than the process may have files open."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from tests.engine.checkpoints import make_checkpoint
from tests.processes import App, http_status
from tests.waiting import PATIENCE, eventually

FILES = 300


def test_a_burst_of_connections_takes_neither_all_files_nor_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    app = App(
        *("--model", str(make_checkpoint(tmp_path / "model"))),
        launcher=["sh", "-c", f'ulimit -n {FILES}; exec "$@" 2>{log}', "sh"],
    )
    address = urlsplit(app.url)
    assert address.hostname is not None
    assert address.port is not None
    try:
        app.wait_until_ready()
        with ExitStack() as opened:
            app.process.send_signal(signal.SIGSTOP)  # so that all of them come at once
            for _ in range(FILES + 100):
                to = address.hostname, address.port
                opened.enter_context(socket.create_connection(to, PATIENCE))
            app.process.send_signal(signal.SIGCONT)
            eventually(lambda: http_status(f"{app.url}/healthz") == 200)
    finally:
        app.process.send_signal(signal.SIGCONT)
        app.stop()
    assert "accept" not in log.read_text()
