"""Runs several engines, which connect over TCP from wherever a placement starts them.

When an engine ends, its requests are reported as `Lapsed` and continue in another engine. A life of
this backend lasts as long as one of its engines is ready. When the last one ends, the worker
suspends all requests and starts the next life. Engines that are still loading then belong to it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Protocol

from pydantic import SecretStr

from gptj_demo.client.backends.base import (
    EngineMessage,
    Health,
    LeaseState,
    write_the_same,
)
from gptj_demo.client.backends.callers import Callers
from gptj_demo.client.backends.calling import READY, Offer
from gptj_demo.client.backends.inbox import Inbox
from gptj_demo.client.backends.local import POLL_SECONDS, describe_exit
from gptj_demo.client.backends.outbox import Outbox
from gptj_demo.client.backends.routing import Router
from gptj_demo.client.backends.scaling import Scaling
from gptj_demo.client.watch import Watch
from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineStatus,
    Heartbeat,
    ModelInfo,
    Refused,
    StepEvents,
    Submit,
    TokenizerReady,
    Visitor,
)
from gptj_demo.returned import Lapsed
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, first_line, message

logger = logging.getLogger(__name__)

EXIT_CODE_SECONDS = 0.5
"""How long to wait for a host to send its engine's exit code."""

_END = object()


class Placement(Protocol):
    """Starts hosts of engines (`host.Host`) on machines."""

    def connect(self) -> str:
        """Connect to the machines; returns the address of this one for them. Raises any error."""

    def place(self, offer: Offer, engines: int) -> None:
        """Start `engines` hosts with this offer; returns at once."""

    def scale(self, engines: int) -> None:
        """Change the number of hosts to `engines`; returns at once."""

    def stop(self) -> None:
        """End all hosts."""


@dataclass(slots=True)
class _Engine:
    """A connected engine; `control` is the connection to its host."""

    number: int
    node: str
    control: Connection
    connection: Connection
    outbox: Outbox
    tokenizer: TokenizerReady | None = None
    model: ModelInfo | None = None  # once it is ready
    how: Message | None = None  # how it ended, if that is known here
    is_dismissed: bool = False
    """Whether the fleet does not want to use it. Its end is then no error."""


class FleetBackend:
    """Several engines; see `base.Backend`."""

    def __init__(self, settings: Settings, placement: Placement, fewest: int, most: int) -> None:
        self._settings, self._placement = _without_secrets(settings), placement
        self._scaling = Scaling(fewest, most)
        self._lock = threading.Lock()
        self._callers = Callers(self._serve)
        self._offer: Offer | None = None
        self._has_begun = self._is_stopping = False
        self._engines: dict[int, _Engine] = {}
        self._router = Router()
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._is_open = False  # whether a life is running
        self._was_ready = False  # whether an engine was, in this life
        self._how = message("exit.not_started")  # of the last engine that ended
        self._compiled_on: set[str] = set()  # machines whose engines were restarted after compiling
        self._stops = threading.Thread(target=placement.stop, name="placement")

    # ---- see `base.Backend`

    def start(self) -> None:
        with self._lock:
            self._messages = queue.SimpleQueue()
            self._is_open, self._was_ready = not self._is_stopping, False
            for engine in self._engines.values():
                if engine.model is not None:
                    self._open(engine)
        if not self._has_begun and not self._is_stopping:
            self._has_begun = True
            self._put(EngineStatus("loading", message("status.placing")))
            threading.Thread(target=self._begin, name="placement", daemon=True).start()

    def send(self, message: Submit | Cancel, visitor: Visitor | None) -> None:
        with self._lock:
            if not self._is_open:
                return
            if isinstance(message, Submit):
                number = self._router.place(message, visitor)
            else:
                number = self._router.engine_of(message.request_id)
            if number is not None:
                self._engines[number].outbox.put(message)

    def events(self) -> Generator[EngineMessage | None, None, None]:
        checked = time.monotonic()
        while True:
            received: Any = None
            with contextlib.suppress(queue.Empty):
                received = self._messages.get(timeout=POLL_SECONDS)
            if received is _END:
                return
            if received is None and self._engines:
                received = Heartbeat(None)  # this class itself watches each engine
            yield received
            if (now := time.monotonic()) >= checked + POLL_SECONDS:
                checked = now
                self._check(now)

    def wait(self) -> Message:
        with self._lock:
            self._is_open = False
            how = self._how
        if self._stops.is_alive():
            self._stops.join()
        return how

    def health(self) -> Health:
        with self._lock:
            ready = sum(engine.model is not None for engine in self._engines.values())
        return Health(None, ready)

    def lease(self, visitor: Visitor | None) -> LeaseState | None:
        return None

    def stop(self) -> None:
        with self._lock:
            has_stopped, self._is_stopping = self._is_stopping, True
            for engine in self._engines.values():
                engine.outbox.hang_up()
            self._end_life()
        if not has_stopped:
            self._callers.stop()
            self._stops.start()

    def kill(self) -> None:
        """Start all engines again, because none has been connected for too long."""
        with self._lock:
            self._end_life()
            offer, wanted = self._offer, self._scaling.wanted
        if offer is not None:
            self._placement.place(offer, wanted)

    # ---- engines

    def _begin(self) -> None:
        """Connect to the machines and start the engines; runs in a thread of its own."""
        try:
            self._offer = self._callers.listen(self._placement.connect())
            self._placement.place(self._offer, self._scaling.wanted)
        except Exception as error:
            logger.debug("engines cannot be placed", exc_info=True)
            self._refuse(first_line(error))

    def _serve(self, number: int, node: str, control: Connection, connection: Connection) -> None:
        """Serve one engine until it ends; runs in a thread of its own."""
        engine = _Engine(number, node, control, connection, Outbox(connection))
        engine.outbox.put(self._settings)
        with self._lock:
            self._engines[number] = engine
            if self._is_stopping:
                engine.outbox.hang_up()
        try:
            self._read(engine)
        except Exception as error:
            logger.error("a message cannot be read: %s", type(error).__name__)
        engine.outbox.hang_up()
        self._end(engine)

    def _read(self, engine: _Engine) -> None:
        """Read an engine's messages until it ends, hangs or is dismissed."""
        watch, inbox = Watch(time.monotonic()), Inbox(engine.connection)
        with contextlib.suppress(EOFError, OSError):
            while engine.how is None and not engine.is_dismissed:
                received = inbox.receive(POLL_SECONDS)
                now = time.monotonic()
                if received is not None:
                    watch.note(received, now)
                    self._on_message(engine, received)
                if (seconds := watch.hung_for(now)) is not None:
                    engine.how = message("exit.hung", seconds=round(seconds))

    def _on_message(self, engine: _Engine, received: Any) -> None:
        with self._lock:
            match received:
                case StepEvents(events):
                    for event in events:
                        self._router.note(engine.number, event)
                    self._put(received)
                case TokenizerReady():
                    engine.tokenizer = received
                    if not self._was_ready:
                        self._put(received)
                case EngineStatus(model=ModelInfo() as model):
                    self._on_ready(engine, model)
                case EngineStatus():
                    if not self._was_ready and engine.number == min(self._engines):
                        self._put(received)
                case Compiled():
                    if engine.node not in self._compiled_on:
                        self._compiled_on.add(engine.node)
                        engine.is_dismissed = True
                case Refused(why):
                    engine.is_dismissed = True
                    logger.error("the engine on %s cannot start: %s", engine.node, why)
                    if not self._was_ready:
                        self._refuse(why)

    def _on_ready(self, engine: _Engine, model: ModelInfo) -> None:
        """Use an engine if it writes the same text as the others; with the lock held."""
        others = (one for one in self._engines.values() if one.model is not None)
        other = next(others, None)
        if other is not None and not (
            other.model is not None
            and write_the_same(other.model, model)
            and other.tokenizer == engine.tokenizer
        ):
            logger.error(
                "the engine on %s has another model than that on %s: %s, where the other has %s. "
                "Set model, revision, precision and backend to what both can have.",
                engine.node, other.node, model, other.model,
            )  # fmt: skip
            engine.is_dismissed = True
            return
        engine.model = model
        with contextlib.suppress(OSError):
            engine.control.send(READY)
        logger.info("an engine on %s is ready", engine.node)
        if self._is_open:
            self._open(engine)

    # ---- lives; with the lock held

    def _open(self, engine: _Engine) -> None:
        """Send requests to an engine that is ready."""
        if not self._was_ready:
            self._was_ready = True
            self._put(engine.tokenizer)
        if (model := engine.model) is not None:
            slots, tokens = model.max_num_seqs, model.max_tokens
            self._router.add(engine.number, slots, tokens, model.context_length)
        self._tell_slots()

    def _tell_slots(self) -> None:
        models = [one.model for one in self._engines.values() if one.model is not None]
        names = ", ".join(sorted({model.device_name for model in models}))
        slots, tokens = self._router.slots, self._router.max_tokens
        model = replace(models[0], max_num_seqs=slots, max_tokens=tokens, device_name=names)
        self._put(EngineStatus("ready", model.why, model=model))

    def _end(self, engine: _Engine) -> None:
        """Remove an engine; its requests continue in others, or wait for the next life."""
        how = engine.how or _exit_of(engine)
        with self._lock:
            del self._engines[engine.number]
            engine.outbox.close()
            engine.control.close()  # its host ends it, if it still runs
            requests = self._router.remove(engine.number)
            if self._is_stopping or not self._is_open:
                return
            if not engine.is_dismissed:
                logger.error("the engine on %s ended: %s", engine.node, how)
            if engine.model is not None and self._router.slots:
                self._tell_slots()
                if requests:
                    self._put(Lapsed(requests, message("end.restarted", how=how), True))
            elif engine.model is not None or not (self._engines or engine.is_dismissed):
                self._how = how
                self._end_life()

    def _end_life(self) -> None:
        self._is_open = False
        self._put(_END)

    def _refuse(self, why: str) -> None:
        self._put(Refused(why))
        self._put(_END)

    def _put(self, received: object) -> None:
        self._messages.put(received)

    def _check(self, now: float) -> None:
        """Adjust the number of engines, once a second."""
        with self._lock:
            ready = sum(engine.model is not None for engine in self._engines.values())
            slots = self._router.slots // ready if ready and self._is_open else 0
            before = self._scaling.wanted
            wanted = self._scaling.update(self._router.load, slots, now)
        if wanted != before:
            logger.info("%d engines are wanted instead of %d", wanted, before)
            self._placement.scale(wanted)


def _without_secrets(settings: Settings) -> Settings:
    """The settings that may travel to other machines."""
    secret = [name for name, value in settings if isinstance(value, SecretStr)]
    return settings.model_copy(update=dict.fromkeys(secret))


def _exit_of(engine: _Engine) -> Message:
    """How an engine ended, as its host says."""
    with contextlib.suppress(EOFError, OSError):
        if not engine.is_dismissed and engine.control.poll(EXIT_CODE_SECONDS):
            return describe_exit(engine.control.recv())
    return message("exit.disconnected")
