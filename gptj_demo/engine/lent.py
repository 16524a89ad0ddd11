"""The engine on a GPU that is lent for seconds at a time, as on ZeroGPU.

The web process loads the weights once (`load`) and never touches the GPU. For each lease the
`spaces` package forks it, or takes a process that it forked before, and calls `serve` there: that
process builds its engine from the inherited weights and answers over a socket, like the engine
process elsewhere, until it has had no request for a second.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection

import torch

from gptj_demo.engine import load as loading
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.model import Placement, choose_path
from gptj_demo.engine.starting import Weights, load_weights, refusing, reporting, start_engine
from gptj_demo.protocol import EngineEvent, ModelInfo, StepEvents, Submit
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message

HOLD_SECONDS = 1.0
"""How long a lease is kept without a request: the next one of a visitor often follows at once."""

PARENT_SECONDS = 1.0  # between two checks that the web process still exists


@dataclass(frozen=True, slots=True)
class Lent:
    """The weights in the web process, and how each lease uses them."""

    weights: Weights
    model: ModelInfo
    may_shrink: bool


def load(settings: Settings, send: Callable[[object], None]) -> Lent:
    """Load the weights in this process, reporting progress; raises `loading.Refusal`.

    The model is in 16 bits and without CUDA graphs, because the visitor pays for the seconds of a
    lease: nothing may be compiled or captured in it.
    """
    try:
        report = reporting(send)
        report(message("status.choosing"), None)
        plan = loading.make_plan(settings)
        on_gpu = plan.device == "cuda"
        if on_gpu and plan.precision == "int8":
            raise loading.Refusal(
                "int8 is not used on ZeroGPU, where there is room for 16 bits: set precision to "
                "auto or float16."
            )
        # the package intercepts moves to the GPU, but not the creation of tensors there
        weights = load_weights(plan, report, send, device="cpu")
        for parameter in weights.model.parameters():  # only parameters: all else is packed as it is
            parameter.data = parameter.data.to(plan.device)
        backend = "eager" if on_gpu and settings.backend == "auto" else settings.backend
        path, _ = choose_path(Placement(plan.device, plan.precision, plan.config), backend)
    except (loading.Refusal, SystemExit):
        raise
    except BaseException as error:
        raise refusing(settings.model, error) from error
    model = weights.info(path.name, message("why.lent"))
    return Lent(weights, model, may_shrink=settings.max_num_seqs is None)


# ---- in the process of a lease

_engine: Engine | None = None  # kept for the next lease that this process gets


def serve(lent: Lent, address: str, lease: int, seconds: float) -> None:
    """Answer requests over the socket at `address` until none is left, or `seconds` are over.

    The first message names the lease. Requests that are not over at the end get no event: the
    web process hands them to the next lease.
    """
    global _engine
    deadline = time.monotonic() + seconds
    if _engine is None:
        _leave_parent()
    with Client(address, "AF_UNIX") as connection:
        connection.send(lease)
        if _engine is None:
            # the web process's thread pools do not work in a fork
            torch.set_num_threads(1)
            path = lent.model.forward_path
            _engine, _ = start_engine(lent.weights, _silent, path, lent.may_shrink)
        _answer(_engine, connection, deadline)


def _silent(detail: Message, progress: float | None) -> None:
    """Report nothing."""


def _answer(engine: Engine, connection: Connection, deadline: float) -> None:
    """Serve the connection; the engine is idle at the end."""
    requests: set[int] = set()  # those that may not have ended
    try:
        while time.monotonic() < deadline:
            left = deadline - time.monotonic()
            if engine.is_idle and not connection.poll(max(0.0, min(HOLD_SECONDS, left))):
                return
            events: list[EngineEvent] = []
            while connection.poll():
                received = connection.recv()
                if isinstance(received, Submit):
                    engine.submit(received)
                    requests.add(received.request_id)
                else:
                    events += engine.cancel(received.request_id)
            events += engine.step()
            if events:
                connection.send(StepEvents(tuple(events)))
    except (EOFError, OSError):
        return  # the web process has closed the connection
    finally:
        for request_id in requests:
            engine.cancel(request_id)


def _leave_parent() -> None:
    """Release the inherited sockets of the web process, and end when that process ends.

    If they stayed open here, clients would wait for ever and the port would stay taken. They are
    replaced by /dev/null instead of closed: a new file could get the number of a closed one while
    an object of the web process still refers to it.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the folder's own, which is closed by now
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.dup2(nothing, number)
    os.close(nothing)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()
