"""A stand-in for Hugging Face's `spaces` package (0.51): its calls, processes and errors, no GPU.

As there, a decorated function runs in a fork of the caller's process, with pickled arguments; a
process that is idle is used again; the visitor's token comes from Gradio's context; errors are
`gr.Error`s with a title. What the scheduler of ZeroGPU would know is written to the file that
`FAKE_SPACES_LOG` names, one JSON object a line.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from . import zero
from .log import note

__all__ = ["GPU", "zero"]

_fork: Any = multiprocessing.get_context("fork")
_idle: list[_Worker] = []
_lock = threading.Lock()
POOR = "poor"
"""A visitor with this token has no quota left."""


def GPU(task: Callable[..., None], *, duration: Callable[..., float]) -> Callable[..., None]:
    zero.decorated.append(task)

    def call(*args: Any) -> None:
        token = _token()
        seconds = duration(*args)
        if token == POOR:
            raise _error(
                "ZeroGPU quota exceeded",
                f"You have exceeded your free ZeroGPU quota ({seconds:.0f}s requested vs. 3s "
                "left). Try again in 1:02:03. ",
            )
        with _lock:
            worker = _idle.pop() if _idle else None
        if worker is None or not worker.process.is_alive():
            worker = _Worker(task)
        note("schedule", token=token, seconds=seconds)
        note("process", token=token, pid=worker.process.pid)
        worker.arguments.put(args)
        result = worker.results.get()
        note("release", token=token)
        if result is None:
            raise _error("ZeroGPU worker error", "GPU task aborted")
        if result != "ok":
            raise _error("ZeroGPU worker error", result)
        with _lock:
            _idle.append(worker)

    return call


class _Worker:
    def __init__(self, task: Callable[..., None]) -> None:
        self.arguments, self.results = _fork.SimpleQueue(), _fork.SimpleQueue()
        self.process = _fork.Process(
            target=_work, args=(task, self.arguments, self.results), daemon=True
        )
        self.process.start()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self.process.join()
        self.results.put(None)


def _work(task: Callable[..., None], arguments: Any, results: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        thread = threading.Thread(target=_run, args=(task, arguments.get(), results))
        thread.start()
        thread.join()


def _run(task: Callable[..., None], arguments: tuple[Any, ...], results: Any) -> None:
    try:
        task(*arguments)
        results.put("ok")
    except Exception as error:
        results.put(type(error).__name__)


def _token() -> str | None:
    request = LocalContext.request.get(None)
    if request is None:
        return None
    assert hasattr(request.headers, "__dict__"), "the real package asks for this"
    token: str | None = request.headers.get("x-ip-token")
    return token


def _error(title: str, message: str) -> Exception:
    return gr.Error(message, title=title, print_exception=False)
