"""The web process's end of the engine: starts, feeds, watches and restarts the engine process.

`Worker.stream(request)` is all that pages, terminal and API know of the model. The engine runs as a
program of its own (`python -m gptj_demo.engine`) at the other end of a socket pair, so the page is
up while weights load, a crash of the model ends no page, and the model's loop shares no interpreter
lock with the open streams. When this process dies in any way the socket closes and the engine ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

from gptj_demo.protocol import (
    Cancel,
    Drafting,
    EngineEvent,
    EngineStatus,
    Finished,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    Refused,
    Started,
    StepEvents,
    StreamEvent,
    Submit,
    TokenEvent,
    TokenizerReady,
    Waiting,
)
from gptj_demo.sampling import MAX_SEED, InvalidControl, SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, MessageError, message
from gptj_demo.tokenization import Token, Vocabulary

logger = logging.getLogger(__name__)

MAX_PROMPT_CHARACTERS = 200_000
TOKENIZE_IN_THREAD_FROM = 20_000  # characters; shorter texts take less than a thread switch costs
RESTART_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds, by failures since the last ready
STOP_SECONDS = 5.0

RefusalKind = Literal["invalid", "too_long", "queue_full", "unavailable"]


class RequestRefused(MessageError):
    """A request that was not taken; the message is for people, `kind` for programs.

    `control` names the control that was wrong, where one was.
    """

    def __init__(self, kind: RefusalKind, message: Message, control: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.control = control


class Observer(Protocol):
    """Who keeps count of requests; called in each stream's own event loop."""

    def opened(self, stream: Stream) -> None:
        """A request was made."""

    def told(self, stream: Stream, event: StreamEvent | RequestRefused) -> None:
        """Something happened to it; see `Stream.done` for whether that was the last."""

    def closed(self, stream: Stream) -> None:
        """It was left before its end."""


class Stream:
    """The events of one request: an async iterator that ends when all completions are `Finished`.

    With `best_of` greater than `n` the candidates' tokens are held back, while `Drafting` tells how
    many there are, until the best are known; these are completions 0 to n - 1, the best first.

    Nothing is sent before the first event is asked for; that may raise `RequestRefused`. Close it
    (`aclose`, or `contextlib.aclosing`) when leaving early: that ends the engine's work on it.
    """

    def __init__(self, worker: Worker, request: GenerationRequest) -> None:
        self._worker = worker
        self.request = request
        self._events: deque[StreamEvent | RequestRefused] = deque()
        self._arrived = asyncio.Event()
        self._opened = self._done = False
        self._preparing: asyncio.Future[None] | None = None
        self.request_id = next(worker._request_ids)
        params = request.params
        self.seed: int = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
        self._open_completions = params.candidates  # the worker's count, under its lock
        self._unfinished = set(range(params.candidates))  # the engine's, by index
        self._ranking = _Ranking(params.n) if params.candidates > params.n else None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._events:
            if self._done:
                raise StopAsyncIteration
            await self._wait(None)
        return self._take()

    async def drain(self, timeout: float | None = None) -> list[StreamEvent]:
        """All events that have arrived, waiting up to `timeout` seconds for the first one.

        An empty list means that nothing came in that time, or that the stream is over.
        """
        if not self._events and not self._done:
            await self._wait(timeout)
        return [self._take() for _ in range(len(self._events))]

    @property
    def done(self) -> bool:
        """Whether the last event has been taken."""
        return self._done and not self._events

    @property
    def has_events(self) -> bool:
        """Whether there are events to take without waiting."""
        return bool(self._events)

    @property
    def over(self) -> bool:
        """Whether the last event has come, taken or not."""
        return self._done

    def cancel(self) -> None:
        """End the engine's work; the stream goes on to its `Finished` with reason `cancelled`."""
        if self._opened and not self._done:
            self._worker._cancel(self)

    async def aclose(self) -> None:
        """End the engine's work and take no more events."""
        if self._opened and not self._done:
            self._worker._forget(self)
            self._done = True
            if self._worker.observer is not None:
                self._worker.observer.closed(self)
        self._done = True
        self._events.clear()

    async def _wait(self, timeout: float | None) -> None:
        if not self._opened:
            self._opened = True
            self._loop = asyncio.get_running_loop()
            observer = self._worker.observer
            if observer is not None:
                observer.opened(self)
            try:
                self._worker._register(self)
            except RequestRefused as refusal:
                self._done = True
                if observer is not None:
                    observer.told(self, refusal)
                raise
            await self._prepare()
            if self._events:
                return
        self._arrived.clear()
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), timeout)

    async def _prepare(self) -> None:
        """Tokenize, check and line up; does nothing yet where there is no tokenizer."""
        vocabulary = self._worker._vocabulary
        if vocabulary is None or not self._worker._accepting:
            return
        try:
            submit = await self._worker._prepare(self, vocabulary)
        except Exception as error:
            if not isinstance(error, RequestRefused):
                logger.exception("a prompt could not be tokenized")
                error = RequestRefused("invalid", message("refused.unreadable"))
            self._worker._forget(self)
            self._deliver(error)
        else:
            self._worker._line_up(self, submit)

    def _deliver(self, event: StreamEvent | RequestRefused) -> None:
        """Called in the stream's own event loop."""
        if self._done:
            return
        if isinstance(event, Finished):
            if event.index not in self._unfinished:
                return  # the engine died after it had ended
            self._unfinished.remove(event.index)
        if self._ranking is not None and isinstance(event, TokenEvent | Finished):
            self._events += self._ranking.add(event, is_last=not self._unfinished)
        else:
            self._events.append(event)
        if isinstance(event, RequestRefused) or not self._unfinished:
            self._done = True
        if self._worker.observer is not None:
            self._worker.observer.told(self, event)
        self._arrived.set()

    def _take(self) -> StreamEvent:
        event = self._events.popleft()
        if isinstance(event, RequestRefused):
            raise event
        return event


class _Ranking:
    """The candidates of `best_of`, of which the `n` with the highest mean log-probability win."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._tokens: dict[int, list[TokenEvent]] = {}
        self._ends: list[Finished] = []
        self._drafted = 0

    def add(self, event: TokenEvent | Finished, is_last: bool) -> list[StreamEvent]:
        """What is to be told now: how many tokens there are, or in the end the winners' events."""
        if isinstance(event, TokenEvent):
            self._tokens.setdefault(event.index, []).append(event)
            self._drafted += 1
            return [Drafting(self._drafted)]
        self._ends.append(event)
        if not is_last:
            return []
        winners = sorted(self._ends, key=_merit)[: self._n]
        told: list[StreamEvent] = []
        for place, end in enumerate(winners):
            told += [token._replace(index=place) for token in self._tokens.get(end.index, ())]
            told.append(replace(end, index=place))
        return told


def _merit(end: Finished) -> tuple[bool, float, int]:
    """Sorts candidates: those that failed last, then by mean log-probability, then by index."""
    mean = -math.inf if end.mean_logprob is None else end.mean_logprob
    return end.reason == "error", -mean, end.index


class Worker:
    """Owns the engine process. Thread-safe; streams may live in any number of event loops."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.status = EngineStatus("starting", message("status.starting"))
        self.observer: Observer | None = None
        self.restarts = 0
        self.tokens_written = 0  # by all engines together
        self._vocabulary: Vocabulary | None = None
        self._limits: TokenizerReady | None = None
        self._request_ids = itertools.count(1)
        self._lock = threading.RLock()
        self._streams: dict[int, Stream] = {}  # open streams, oldest first
        self._waiting: dict[int, int] = {}  # of those without a slot: requests ahead as last told
        self._prepared: dict[int, Submit] = {}  # of those in line, what the engine is to get
        self._submitted: set[int] = set()
        self._connection: Connection | None = None
        self._accepting = False  # whether an engine is there that takes requests
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._refusal: Message | None = None
        self._thread = threading.Thread(target=self._supervise, name="engine", daemon=True)
        # Threads are not joined: a join that a signal interrupts marks a living thread as ended.
        self._ended = threading.Event()

    # ---- for the process that owns the worker

    def start(self) -> None:
        """Start the engine process; returns at once, `status` tells how it gets on."""
        self._thread.start()

    def stop(self) -> None:
        """End the engine process and wait until it is gone."""
        self._stopping.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            # a shut-down wakes the reading thread, which closing the descriptor would not
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(connection.fileno())) as ours,
            ):
                ours.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._ended.wait(STOP_SECONDS + 5)

    def wait(self) -> str | None:
        """Block until the worker is stopped; returns why the engine refused its settings, if so."""
        while not self._ended.wait(0.5):  # signals are handled between two waits at the latest
            pass
        return None if self._refusal is None else str(self._refusal)

    @property
    def engine_pid(self) -> int | None:
        """Process id of the engine, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    # ---- for pages, terminal and API

    def stream(self, request: GenerationRequest) -> Stream:
        """The events of a new request; see `Stream`."""
        return Stream(self, request)

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers, None before the first one is loaded."""
        return self.status.model

    @property
    def context_length(self) -> int | None:
        """Tokens that prompt and continuation may have together; None before it is known."""
        return None if self._limits is None else self._limits.context_length

    @property
    def slots_a_visitor(self) -> int:
        """Slots that one visitor gets at most, so that others find one; 0 before it is known."""
        model = self.model
        return 0 if model is None else model.max_streams - _slots_kept_for_others(model.max_streams)

    @property
    def streams_running(self) -> int:
        """Slots that are held: one for each completion of the requests that have started."""
        with self._lock:
            held = sum(
                stream._open_completions
                for request_id, stream in self._streams.items()
                if request_id not in self._waiting
            )
        return held if self.model is None else min(held, self.model.max_streams)

    @property
    def streams_waiting(self) -> int:
        """Requests that wait for one."""
        return len(self._waiting)

    async def count_tokens(self, text: str) -> int | None:
        """Tokens of a text, None while the tokenizer is not there; raises `RequestRefused`."""
        if self._vocabulary is None:
            return None
        return len(await self._encode(text, self._vocabulary))

    async def unread(self, text: str, max_new_tokens: int) -> tuple[int, int]:
        """What `truncate` = left takes from a text: how many tokens, and how many characters.

        A character of which the model reads a part counts as taken. Raises `RequestRefused`.
        """
        vocabulary = self._vocabulary
        if vocabulary is None:
            return 0, 0
        token_ids = await self._encode(text, vocabulary)
        dropped = max(0, len(token_ids) - self._longest_read(max_new_tokens))
        taken = vocabulary.tokens(token_ids, text)[dropped - 1].end if dropped else 0
        return dropped, len(text.encode()[:taken].decode(errors="replace"))

    async def tokenize(self, text: str, *, begins: bool = True) -> list[Token]:
        """The tokens of a text that `begins` or goes on; raises `RequestRefused`, also while there
        is no tokenizer yet."""
        if self._vocabulary is None:
            raise RequestRefused("unavailable", message("refused.loading"))
        return self._vocabulary.tokens(await self._encode(text, self._vocabulary, begins), text)

    def token_text(self, token_id: int) -> str:
        """What a token that the engine told looks like by itself; see `Token.text`."""
        assert self._vocabulary is not None
        return self._vocabulary.text_of(token_id)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The model's tokenizer, None before it is known."""
        return self._vocabulary

    # ---- requests

    async def _encode(self, text: str, vocabulary: Vocabulary, begins: bool = True) -> list[int]:
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise RequestRefused(
                "too_long",
                message(
                    "refused.too_many_characters",
                    characters=len(text),
                    most=MAX_PROMPT_CHARACTERS,
                    context=self.context_length,
                ),
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestRefused(
                "invalid",
                message(
                    "refused.surrogate",
                    place=error.start + 1,
                    character=f"U+{ord(text[error.start]):04X}",
                ),
            ) from None
        encode = vocabulary.encode_prompt if begins else vocabulary.encode
        if len(text) < TOKENIZE_IN_THREAD_FROM:
            return encode(text)
        return await asyncio.to_thread(encode, text)

    async def _prepare(self, stream: Stream, vocabulary: Vocabulary) -> Submit:
        """Tokenize and check a request; raises `RequestRefused`."""
        params = stream.request.params
        try:
            controls = vocabulary.tokenize_controls(params)
        except InvalidControl as error:
            raise RequestRefused("invalid", error.message, error.name) from None
        token_ids = await self._prompt_ids(stream.request.prompt, vocabulary)
        kept = self._fit(token_ids, params) or (vocabulary.bos_token_id,)
        return Submit(
            stream.request_id,
            kept,
            params,
            stream.seed,
            controls.logit_bias,
            controls.bad_words,
            controls.dry_sequence_breakers,
            max(0, len(token_ids) - len(kept)),
        )

    async def _prompt_ids(
        self, prompt: str | tuple[int, ...], vocabulary: Vocabulary
    ) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return tuple(await self._encode(prompt, vocabulary))
        wrong = next((i for i in prompt if i not in vocabulary), None)
        if wrong is not None:
            raise RequestRefused(
                "invalid",
                message("refused.token_id", token=str(wrong), last=str(vocabulary.size - 1)),
            )
        return prompt

    def _fit(self, token_ids: tuple[int, ...], params: SamplingParams) -> tuple[int, ...]:
        """The prompt that the model reads: all of it, or its end; see `SamplingParams.truncate`."""
        context = self.context_length
        assert context is not None
        if params.truncate == "left":
            return token_ids[-self._longest_read(params.max_new_tokens) :]
        longest = context - (params.max_new_tokens > 0)  # room for a token at least
        if len(token_ids) > longest:
            sizes = {"tokens": len(token_ids), "context": context}
            why = message("refused.too_long", **sizes, count=len(token_ids) - longest)
            raise RequestRefused("too_long", why, "truncate")
        return token_ids

    def _longest_read(self, max_new_tokens: int) -> int:
        """Tokens of a prompt that are read where its beginning may be left out."""
        context = self.context_length
        assert context is not None
        return context - min(max_new_tokens, context // 2)

    def _register(self, stream: Stream) -> None:
        visitor = stream.request.visitor
        with self._lock:
            if self._refusal is not None or self._stopping.is_set():
                stopped = message("refused.stopped")
                raise RequestRefused("unavailable", self._refusal or stopped)
            model = self.status.model if self.status.state == "ready" else None
            free = max(0, model.max_streams - self.streams_running) if model else 0
            ahead = len(self._waiting)
            if ahead >= self.settings.max_waiting + free:
                raise RequestRefused("queue_full", message("refused.queue_full", count=ahead))
            own = sum(self._streams[i].request.visitor == visitor for i in self._waiting)
            share = max(1, self.settings.max_waiting - self.settings.max_waiting // 4)
            if visitor is not None and own >= share + free:
                raise RequestRefused("queue_full", message("refused.your_share", count=own))
            self._streams[stream.request_id] = stream
            self._waiting[stream.request_id] = -1  # told below
            moved = self._places()
        stream._deliver(Waiting(self._waiting.get(stream.request_id, 0)))
        self._deliver_all([one for one in moved if one[0] is not stream])

    def _line_up(self, stream: Stream, message: Submit) -> None:
        """The request is ready for the engine, which gets it when it is its turn."""
        with self._lock:
            if stream.request_id not in self._streams or stream.request_id in self._submitted:
                return
            self._prepared[stream.request_id] = message
            self._fill_slots()

    def _cancel(self, stream: Stream) -> None:
        """End a request: the engine says the last word on those that it has."""
        with self._lock:
            if stream.request_id in self._submitted:
                self._send(Cancel(stream.request_id))
                return
            if self._streams.pop(stream.request_id, None) is None:
                return
            self._prepared.pop(stream.request_id, None)
            deliveries = self._leave_queue([stream.request_id])
        self._deliver_all(
            [*_last_events(stream, "cancelled", message("end.cancelled")), *deliveries]
        )

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.pop(stream.request_id, None) is None:
                return
            self._prepared.pop(stream.request_id, None)
            if stream.request_id in self._submitted:
                self._submitted.remove(stream.request_id)
                self._send(Cancel(stream.request_id))
                self._fill_slots()  # the engine reads the one after the other
            deliveries = self._leave_queue([stream.request_id])
        self._deliver_all(deliveries)

    def _fill_slots(self) -> None:
        """Give the engine as many requests as it has slots for; the others keep their line here.

        It gets a few more than that, so that no slot is empty while the next request travels.
        Whose turn it is: that of the visitor who has the fewest completions in the engine, and
        among equals of the request that came first. And no visitor gets the last slots, so that
        somebody else need not wait for one to be free.
        """
        model = self.status.model if self.status.state == "ready" and self._accepting else None
        if model is None:
            return
        most = self.slots_a_visitor
        held = self._held()
        while self._prepared and held.total() < model.max_streams + model.max_streams // 8:
            may_go = [
                request_id
                for request_id in self._prepared
                if (visitor := self._streams[request_id].request.visitor) is None
                or held[visitor] < most
            ]
            if not may_go:
                return
            chosen = min(may_go, key=lambda i: (held[self._streams[i].request.visitor], i))
            stream = self._streams[chosen]
            held[stream.request.visitor] += stream._open_completions
            self._submitted.add(chosen)
            self._send(self._prepared.pop(chosen))

    def _held(self) -> Counter[str | None]:
        """Completions that the engine has, by visitor."""
        held: Counter[str | None] = Counter()
        for request_id in self._submitted:
            stream = self._streams[request_id]
            held[stream.request.visitor] += stream._open_completions
        return held

    def _places(self) -> list[tuple[Stream, StreamEvent]]:
        """Work out the places in the line; where one has changed, the event that tells it."""
        held = self._held()
        turns: list[tuple[bool, int, int]] = []
        for request_id in sorted(self._waiting):
            stream = self._streams[request_id]
            is_submitted = request_id in self._submitted
            turns.append((not is_submitted, held[stream.request.visitor], request_id))
            if not is_submitted:
                held[stream.request.visitor] += stream.request.params.candidates
        moved: list[tuple[Stream, StreamEvent]] = []
        for ahead, (*_, request_id) in enumerate(sorted(turns)):
            if ahead != self._waiting[request_id]:
                self._waiting[request_id] = ahead
                moved.append((self._streams[request_id], Waiting(ahead)))
        return moved

    def _leave_queue(self, request_ids: list[int]) -> list[tuple[Stream, StreamEvent]]:
        """Take requests out of the waiting line; the new places of the others, to be delivered."""
        left = [self._waiting.pop(request_id, None) for request_id in request_ids]
        return self._places() if any(place is not None for place in left) else []

    def _send(self, message: Submit | Cancel) -> None:
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(OSError):  # a dead engine is the supervisor's to notice
                    self._connection.send(message)

    def _deliver_all(self, deliveries: list[tuple[Stream, StreamEvent]]) -> None:
        """Hand events to their streams: one call into each event loop, however many streams."""
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Stream, StreamEvent]]] = {}
        for stream, event in deliveries:
            by_loop.setdefault(stream._loop, []).append((stream, event))
        for loop, batch in by_loop.items():
            _call_in_loop(loop, _deliver_batch, batch)

    # ---- the engine process; all below runs in the supervising thread

    def _supervise(self) -> None:
        try:
            self._run_engines()
        finally:
            self._ended.set()

    def _run_engines(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                was_ready = self._run_engine()
            except Exception:  # a bug of ours; without this every later request would wait for ever
                logger.exception("the supervision of the model process failed")
                was_ready = False
            if self._stopping.is_set() or self._refusal is not None:
                break
            failures = 0 if was_ready else failures + 1
            self._stopping.wait(RESTART_DELAYS[min(failures, len(RESTART_DELAYS) - 1)])
        self._end_streams(self._refusal or message("end.shutting_down"))

    def _run_engine(self) -> bool:
        """One life of the engine process; returns whether it was ever ready."""
        process, connection = _spawn_engine()
        with self._lock:
            self._process, self._connection = process, connection
        was_ready = False
        try:
            connection.send(self.settings)
            while True:
                received = connection.recv()
                was_ready |= isinstance(received, EngineStatus) and received.state == "ready"
                self._dispatch(received)
        except (EOFError, OSError):
            pass
        finally:
            with self._lock:
                self._connection = self._process = None
                self._accepting = False
                connection.close()  # and a living engine ends
            code = self._end_process(process)
        if not self._stopping.is_set() and self._refusal is None:
            how = _describe_exit(code)
            logger.error("the model process ended: %s; restarting it", how)
            model = self.status.model
            why = message("status.restarting", how=how)
            self.status = EngineStatus("restarting", why, model=model)
            self.restarts += 1
            self._end_streams(message("end.restarted", how=how))
        return was_ready

    def _end_process(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _dispatch(self, received: Any) -> None:
        match received:
            case StepEvents(events):
                self._dispatch_events(events)
            case EngineStatus():
                if received.state == "loading" and self.status.state == "restarting":
                    received = EngineStatus(
                        "restarting", received.detail, received.progress, self.status.model
                    )
                self.status = received
                with self._lock:
                    self._fill_slots()
            case TokenizerReady():
                vocabulary = Vocabulary(
                    received.tokenizer_json,
                    received.vocabulary_size,
                    received.bos_token_id,
                    received.eos_token_ids,
                    received.unused_token_ids,
                )
                with self._lock:
                    self._vocabulary, self._limits = vocabulary, received
                    self._accepting = True
                    late = [s for i, s in self._streams.items() if i not in self._prepared]
                for stream in late:
                    _call_in_loop(stream._loop, _start_preparing, stream)
            case Refused(text):
                if self.status.state == "restarting":  # it worked before: worth trying again
                    logger.error("the model could not be restarted: %s", text)
                else:
                    self._refusal = message("status.refused", why=text)
                    self.status = EngineStatus("failed", self._refusal)
            case _:
                raise TypeError(f"unknown message from the engine: {type(received).__name__}")

    def _dispatch_events(self, events: tuple[EngineEvent, ...]) -> None:
        deliveries: list[tuple[Stream, StreamEvent]] = []
        left: list[int] = []
        has_ended = False
        with self._lock:
            for event in events:
                stream = self._streams.get(event.request_id)
                if stream is None:
                    continue
                deliveries.append((stream, event))
                self.tokens_written += isinstance(event, TokenEvent)
                if isinstance(event, Finished):
                    has_ended = True
                    self._count_end(stream)
                if isinstance(event, Finished | Started):
                    left.append(event.request_id)
            if has_ended:
                self._fill_slots()
            if left:
                deliveries += self._leave_queue(left)
        self._deliver_all(deliveries)

    def _count_end(self, stream: Stream) -> None:
        """One completion of the stream has ended, perhaps the last."""
        stream._open_completions -= 1
        if stream._open_completions == 0:
            del self._streams[stream.request_id]
            self._submitted.discard(stream.request_id)

    def _end_streams(self, why: Message) -> None:
        """End with an error what the engine had; requests it never got wait for the next one."""
        final = self._refusal is not None or self._stopping.is_set()
        with self._lock:
            ended = [s for i, s in self._streams.items() if final or i in self._submitted]
            for stream in ended:
                del self._streams[stream.request_id]
            self._submitted.clear()
            self._prepared.clear()  # the others are read anew for the next engine
            moved = self._leave_queue([stream.request_id for stream in ended])
        deliveries = [one for stream in ended for one in _last_events(stream, "error", why)]
        self._deliver_all(deliveries + moved)


def _slots_kept_for_others(max_streams: int) -> int:
    """Slots that one visitor alone does not get: one in eight, where there are four or more."""
    return 0 if max_streams < 4 else max(1, max_streams // 8)


def _last_events(
    stream: Stream, reason: FinishReason, why: Message
) -> list[tuple[Stream, StreamEvent]]:
    """The ends of a stream's completions where the engine has no word on them."""
    seed = stream.seed
    return [
        (stream, Finished(stream.request_id, reason, why, "", 0, 0, seed, index))
        for index in range(stream.request.params.candidates)
    ]


def _spawn_engine() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    root = str(Path(__file__).resolve().parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    environment = {
        # threads that spin while they wait are ruinous where the page needs the same cores
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": root if not inherited else root + os.pathsep + inherited,
        "DISABLE_SAFETENSORS_CONVERSION": "1",
    }
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "gptj_demo.engine", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=2,  # whatever a library prints there must not reach the terminal's own output
            env=environment,
        )
    return process, Connection(ours.detach())


def _describe_exit(code: int) -> Message:
    if code >= 0:
        return message("exit.code", code=str(code))
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return message("exit.killed" if name == "SIGKILL" else "exit.signal", signal=name)
    return message("exit.signal", signal=str(-code))


def _call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any
) -> None:
    with contextlib.suppress(RuntimeError):  # a closed loop has nobody left to tell
        loop.call_soon_threadsafe(function, *arguments)


def _deliver_batch(batch: list[tuple[Stream, StreamEvent]]) -> None:
    for stream, event in batch:
        stream._deliver(event)


def _start_preparing(stream: Stream) -> None:
    stream._preparing = asyncio.ensure_future(stream._prepare())  # held, or it may be collected
