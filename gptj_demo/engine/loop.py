"""The engine process's main loop: load, then inbox -> schedule -> run -> outbox until EOF.

A reader thread takes messages off the socket; the main thread owns the model. When the socket
closes, because the web process stopped or died, the process ends at once. An exception in a step
ends it too, with a traceback in the log: the model's state is then unknown, and the worker starts a
new engine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from gptj_demo.engine import load as loading
from gptj_demo.engine import remote
from gptj_demo.engine.compilation import has_compiled
from gptj_demo.engine.engine import Engine
from gptj_demo.engine.pulse import Pulse
from gptj_demo.engine.starting import (
    compile_code,
    load_weights,
    refusing,
    reporting,
    start_engine,
)
from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineEvent,
    EngineStatus,
    Refused,
    StepEvents,
    Submit,
    TokenEvent,
)
from gptj_demo.served import BACKEND, LOST
from gptj_demo.settings import Settings
from gptj_demo.texts import message

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.004
"""How long tokens may wait for those of the next steps.

A message takes about 0.1 ms, a third of the sample model's step; callers get their updates less
often than this.
"""


def load(settings: Settings, send: Callable[[object], None]) -> Engine:
    """Find, load and warm up the model, reporting progress; raises `loading.Refusal`."""
    try:
        report = reporting(send)
        report(message("status.choosing"), None)
        plan = loading.make_plan(settings)
        compile_code(plan, settings.backend, report)
        if has_compiled():
            send(Compiled())
        weights = load_weights(plan, report, send)
        may_shrink = settings.max_num_seqs is None
        engine, model = start_engine(weights, report, settings.backend, may_shrink)
    except (loading.Refusal, BrokenPipeError, ConnectionResetError, SystemExit):
        raise
    except BaseException as error:  # a panic in a Rust library is not an `Exception`
        raise refusing(settings.model, error) from error
    if has_compiled():
        send(Compiled())
    logger.info("%s", model.why)
    send(EngineStatus("ready", model.why, model=model))
    return engine


def serve(
    engine: Engine,
    inbox: queue.SimpleQueue[Submit | Cancel],
    send: Callable[[object], None],
    pulse: Pulse,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Serve the inbox forever. The tokens of fast steps are sent together, all else at once."""
    gathered: list[EngineEvent] = []
    sent = 0.0
    while True:
        events: list[EngineEvent] = []
        received = inbox.get() if engine.is_idle else _get_nowait(inbox)
        if received is not None and gathered:  # reading a prompt can take long
            send(StepEvents(tuple(gathered)))
            gathered = []
        while received is not None:
            if isinstance(received, Submit):
                engine.submit(received)
            else:
                events += engine.cancel(received.request_id)
            received = _get_nowait(inbox)
        pulse.begin_step()
        events += engine.step()
        pulse.end_step()
        gathered += events
        now = clock()
        is_due = now - sent >= GATHER_SECONDS
        if gathered and (is_due or not all(isinstance(event, TokenEvent) for event in events)):
            send(StepEvents(tuple(gathered)))
            gathered, sent = [], now


def _get_nowait(inbox: queue.SimpleQueue[Submit | Cancel]) -> Submit | Cancel | None:
    try:
        return inbox.get_nowait()
    except queue.Empty:
        return None


def main(descriptor: int) -> None:
    """Run the engine over an inherited socket; the first message on it is the `Settings`."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.raiseExceptions = False  # a log on a full disk is no reason for tracebacks
    if sys.flags.dev_mode:  # PYTHONDEVMODE=1 shows why loading failed, with the traceback
        logging.getLogger(refusing.__module__).setLevel(logging.DEBUG)
    connection = Connection(descriptor)
    settings = connection.recv()
    inbox: queue.SimpleQueue[Submit | Cancel] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)
        except BaseException as error:  # no request would arrive any more
            logger.error("a message cannot be read: %s", type(error).__name__)
            os._exit(1)

    sending = threading.Lock()

    def send(message: object) -> None:
        with sending:
            connection.send(message)

    threading.Thread(target=read, name="inbox", daemon=True).start()
    pulse = Pulse(send)
    pulse.start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the web process is gone
        try:
            if settings.backend == BACKEND:
                remote.serve(settings, inbox, send)
            else:
                serve(load(settings, send), inbox, send, pulse)
        except loading.Refusal as refusal:
            send(Refused(str(refusal)))
            sys.exit(2)
        except remote.ServerLost as lost:
            logger.warning("the completions server no longer answers: %s", lost)
            os._exit(LOST)
    os._exit(0)  # at once, without waiting for threads of libraries
