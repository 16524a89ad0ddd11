"""Loads one folder after another as the engine does: `python -m tests.folders.loader`.

Each line of standard input is a request, a JSON object with `folder`, `precision` and `outside`;
each line of standard output says how it ended. One process for all: a start takes longer than a
load.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

RUNS = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "pty.spawn", "subprocess.Popen")
"""Audited events that a model's files must not cause."""


class Auditor:
    """Records actions of Python that loading must not take: programs, connections, files of the
    folder `outside`."""

    def __init__(self) -> None:
        self.outside: str | None = None
        self.noted: list[str] = []
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.outside is None:
            return
        if event in RUNS or event == "socket.connect":
            self.noted.append(f"{event} {arguments!r:.200}")
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(self.outside):
                self.noted.append(f"open {path}")


def peak_memory() -> int:
    """The largest resident memory since `forget_peak`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/self/status has no VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a library's output must not be taken for an answer
    auditor = Auditor()

    from gptj_demo.engine.load import Refusal
    from gptj_demo.engine.loop import load
    from gptj_demo.settings import Settings

    for line in sys.stdin:
        request = json.loads(line)
        settings = Settings(model=request["folder"], precision=request["precision"], max_num_seqs=1)
        gc.collect()
        forget_peak()
        began = time.monotonic()
        auditor.outside, auditor.noted = request["outside"], []
        ended, why = "loaded", ""
        try:
            load(settings, lambda message: None)
        except Refusal as refusal:
            ended, why = "refused", str(refusal)
        except BaseException as error:
            ended, why = "failed", f"{type(error).__name__}: {error}"
        auditor.outside = None
        answer = {
            "ended": ended,
            "why": why,
            "seconds": time.monotonic() - began,
            "memory": peak_memory(),
            "noted": auditor.noted,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
