"""The web process's end of the engine: `Worker.stream(request)` and the engine's state.

Page, terminal and API use the model only through it. A backend runs the engine; the worker watches
it, restarts it after a failure, and ends every stream with a reason.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from dataclasses import replace

from gptj_demo.client.backends.base import (
    EXIT_SECONDS,
    Backend,
    EngineMessage,
    write_the_same,
)
from gptj_demo.client.backends.choice import make_backend
from gptj_demo.client.dispatcher import Dispatcher
from gptj_demo.client.moderation import make_moderation
from gptj_demo.client.prompt import Ready, encode, tokenize
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.restarts import Restarts, given_up
from gptj_demo.client.stream import Observer, Stream
from gptj_demo.client.watch import Watch
from gptj_demo.protocol import (
    Compiled,
    EngineStatus,
    GenerationRequest,
    Heartbeat,
    ModelInfo,
    Refused,
    StepEvents,
    TokenizerReady,
)
from gptj_demo.returned import Lapsed, Lost
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message
from gptj_demo.tokenization import Token, Vocabulary

logger = logging.getLogger(__name__)

DRAIN_POLL_SECONDS = 0.05
DRAIN_IDLE_POLLS = 4
"""Polls in a row that must find no open request: there is a gap between two parts of a request."""
MOST_FAILURES = 3
"""How many engines may end before they are ready until the streams that wait for one are ended."""


class Worker:
    """The facade over one engine. Thread-safe; streams may live in any number of event loops."""

    def __init__(self, settings: Settings, backend: Backend | None = None) -> None:
        self.settings = settings
        self.status = EngineStatus("starting", message("status.starting"))
        self.observer: Observer | None = None
        self.moderation = make_moderation(settings)
        self.restarts = 0
        self._backend = make_backend(settings) if backend is None else backend
        self.health = self._backend.health  # see `Backend.health`
        self._has_compiled = False  # whether an engine was started again after it had compiled
        self._tokenizer: TokenizerReady | None = None
        self._watch: Watch | None = None
        self._died: Message | None = None  # how the last engine ended, for the streams it had
        self._request_ids = itertools.count(1)
        self.lease = self._backend.lease  # see `Backend.lease`
        self._dispatcher = Dispatcher(settings, self._backend.send)
        self.has_place = self._dispatcher.has_place  # see `Dispatcher.has_place`
        self._stopping = threading.Event()
        self._refusal: Message | None = None
        self._restart_policy = Restarts()
        self._thread = threading.Thread(target=self._supervise, name="engine", daemon=True)
        # Threads are not joined: a join that a signal interrupts marks a living thread as ended.
        self._ended = threading.Event()

    # ---- for the process that owns the worker

    def start(self) -> None:
        """Start the engine; returns at once, `status` follows its progress."""
        if self.moderation is not None:
            self.moderation.start()
        self._thread.start()

    @property
    def takes_requests(self) -> bool:
        """Whether a request is answered soon: the model is ready, or its engine was just lost."""
        state, failures = self.status.state, self._restart_policy.failures
        return state == "ready" or (state == "restarting" and failures < MOST_FAILURES)

    @property
    def is_draining(self) -> bool:
        """Whether no new requests are taken, because the program ends."""
        return self._dispatcher.closed is not None

    def drain(self, seconds: float) -> None:
        """Take no new requests; return when those that are open have ended, or after `seconds`."""
        self._dispatcher.close(message("refused.draining"), is_draining=True)
        end = time.monotonic() + seconds
        checks, idle = self.moderation, 0
        while idle < DRAIN_IDLE_POLLS and time.monotonic() < end:
            time.sleep(DRAIN_POLL_SECONDS)
            is_open = self.streams_running or self.streams_waiting
            idle = 0 if is_open or (checks and checks.is_checking) else idle + 1

    def stop(self) -> None:
        """End the engine and wait until it is gone."""
        self._stopping.set()
        self._dispatcher.close(message("refused.stopped"), is_draining=False)
        self._backend.stop()
        if self._thread.ident is not None:
            self._ended.wait(EXIT_SECONDS + 5)
        if self.moderation is not None:
            self.moderation.stop()

    def wait(self) -> str | None:
        """Block until the worker is stopped; returns why the engine refused its settings, if so."""
        while not self._ended.wait(0.5):  # signals are handled between two waits at the latest
            pass
        return None if self._refusal is None else str(self._refusal)

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine, None while there is none."""
        return self._backend.health().process_id

    # ---- for pages, terminal and API

    def stream(self, request: GenerationRequest) -> Stream:
        """The events of a new request; see `Stream`."""
        given = self._dispatcher, next(self._request_ids), request, self.observer
        if self.moderation is None:
            return Stream(*given)
        return self.moderation.stream(*given, self.vocabulary)

    @property
    def ready(self) -> Ready | None:
        """Properties of the model, None before its tokenizer is loaded."""
        return self._dispatcher.ready

    @property
    def tokens_written(self) -> int:
        """Tokens that all engines together have generated."""
        return self._dispatcher.tokens_written

    @property
    def resumed(self) -> int:
        """Requests that went on in another engine after theirs had ended."""
        return self._dispatcher.resumed

    @property
    def model(self) -> ModelInfo | None:
        """The loaded model, None before the first one is loaded."""
        return self.status.model

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The model's tokenizer, None before it is known."""
        return None if self.ready is None else self.ready.vocabulary

    @property
    def context_length(self) -> int | None:
        """The limit of prompt and completion together, in tokens; None before it is known."""
        return None if self.ready is None else self.ready.context_length

    def require_ready(self) -> Ready:
        """`ready`; raises `RequestRefused` before the tokenizer is loaded."""
        if self.ready is None:
            raise RequestRefused("unavailable", message("refused.loading"))
        return self.ready

    @property
    def slots_per_visitor(self) -> int:
        """Slots that one visitor gets at most, so that others find one; 0 before it is known."""
        return self._dispatcher.slots_per_visitor

    @property
    def streams_running(self) -> int:
        """Slots that are held: one for each completion of the requests that have started."""
        return self._dispatcher.usage.running

    @property
    def tokens_reserved(self) -> int:
        """Tokens of the KV cache that the started requests reserve."""
        return self._dispatcher.usage.reserved

    @property
    def streams_waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._dispatcher.usage.waiting

    async def count_tokens(self, text: str) -> int | None:
        """Tokens of a text, None before the tokenizer is loaded; raises `RequestRefused`."""
        return None if self.ready is None else len(await encode(text, self.ready))

    async def tokenize(self, text: str, *, most: int | None = None) -> list[Token]:
        """Tokens of a text, `most` at most; raises as `tokenize` and `require_ready` do."""
        return await tokenize(text, self.require_ready(), most=most)

    def token_text(self, token_id: int) -> str:
        """The text of a single token; see `Token.text`."""
        return self.require_ready().vocabulary.text_of(token_id)

    # ---- the engine; all below runs in the supervising thread

    def _supervise(self) -> None:
        try:
            while not self._stopping.is_set() and self._refusal is None:
                self._stopping.wait(self._run_engine())
            self._dispatcher.end_all(self._refusal or message("end.shutting_down"))
        finally:
            self._ended.set()

    def _run_engine(self) -> float:
        """Run the engine until it ends; returns the seconds until the next start."""
        watch = self._watch = Watch(time.monotonic(), self._watch)
        hung: Message | None = None
        is_planned = False  # whether the engine is ended only to be restarted
        try:
            self._backend.start()
            if self._stopping.is_set():  # `stop` may have run before this engine was set
                self._backend.stop()
            with contextlib.closing(self._backend.events()) as events:
                for event in events:
                    now = time.monotonic()
                    if isinstance(event, Compiled) and not self._has_compiled:
                        self._has_compiled = is_planned = True
                        break
                    if event is not None:
                        watch.note(event, now)
                        self._on_message(event)
                    if (seconds := watch.hung_for(now)) is not None:
                        hung = message("exit.hung", seconds=round(seconds))
                        self._backend.kill()
                        break
        except Exception:  # after a bug here, open streams must still end
            logger.exception("the supervision of the model process failed")
        how = self._backend.wait()
        how = hung or how
        if self._stopping.is_set() or self._refusal is not None or is_planned:
            return 0.0
        delay = self._restart_policy.delay_after(how, was_ready=watch.is_ready)
        if delay is None:
            self._refuse(given_up(how))
            return 0.0
        logger.error("the model process ended: %s; restarting it", how)
        why = message("status.restarting", how=how)
        self.status = EngineStatus("restarting", why, model=self.model)
        self.restarts += 1
        self._died = message("end.restarted", how=how)
        self._dispatcher.suspend(self._died)
        if self._restart_policy.failures >= MOST_FAILURES:
            self._dispatcher.end_all(self._died)
        return delay

    def _refuse(self, why: Message) -> None:
        """Start no engine again, and refuse requests with the reason."""
        self._refusal = self._dispatcher.closed = why
        self.status = EngineStatus("failed", why)

    def _on_message(self, received: EngineMessage) -> None:
        match received:
            case StepEvents(events):
                self._dispatcher.on_events(events)
            case EngineStatus():
                self._on_status(received)
            case Heartbeat() | Compiled():
                pass
            case Lapsed(request_ids, why, is_shared):
                self._dispatcher.suspend(why, request_ids, is_shared=is_shared)
            case Lost():
                self._dispatcher.lose(received)
            case TokenizerReady():
                self._on_tokenizer(received)
            case Refused(why):
                if self.model is not None:  # it has worked before: try again
                    logger.error("the model could not be restarted: %s", why)
                else:
                    self._refuse(message("status.refused", why=why))
            case _:
                raise TypeError(f"unknown message from the engine: {type(received).__name__}")

    def _on_tokenizer(self, received: TokenizerReady) -> None:
        vocabulary = self.vocabulary
        if vocabulary is None or received != self._tokenizer:
            if self._died is not None:  # token ids may have another meaning now
                self._dispatcher.give_up(self._died)
            vocabulary, self._tokenizer = Vocabulary.of(received), received
        self._dispatcher.accept(Ready(vocabulary, received.context_length, self.model))

    def _on_status(self, status: EngineStatus) -> None:
        if status.state == "loading" and self.status.state == "restarting":
            status = replace(status, state="restarting", model=self.model)
        before, self.status = self.model, status
        ready, model = self.ready, status.model
        if status.state == "ready" and ready is not None and model is not None:
            if self._died is not None and before is not None and not write_the_same(model, before):
                self._dispatcher.give_up(self._died)
            self._dispatcher.open(ready, model)
