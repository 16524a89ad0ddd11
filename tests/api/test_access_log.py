"""The line that each request writes to standard error, where that cannot be written."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.engine.checkpoints import make_checkpoint
from tests.processes import App
from tests.waiting import PATIENCE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("streams", [False, True])
def test_a_full_disk_costs_no_answer(tmp_path: Path, streams: bool) -> None:
    app = App(
        *("--model", str(make_checkpoint(tmp_path)), "--access-log", "json"),
        launcher=["sh", "-c", 'exec "$@" 2>/dev/full', "sh"],
    )
    body = {"prompt": "The lamp", "max_tokens": 3, "stream": streams}
    request = urllib.request.Request(
        f"{app.url}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        app.wait_until_ready()
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read().decode()
    finally:
        app.stop()
    assert text.endswith("data: [DONE]\n\n") if streams else json.loads(text)["choices"]
    assert app.process.returncode == 0
