"""Hands requests to the engine and the engine's events to the streams.

Streams live in event loops and the engine's messages arrive in a thread of their own, so a lock
protects the state here. `admission` decides the order of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from gptj_demo.client.admission import Admission
from gptj_demo.client.progress import MOST_DEATHS, Progress
from gptj_demo.client.prompt import Ready, build_submit
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.shares import Capacity, Usage, reservation
from gptj_demo.client.stream import Stream
from gptj_demo.protocol import (
    Cancel,
    EngineEvent,
    Finished,
    FinishReason,
    ModelInfo,
    Reconnecting,
    Started,
    StreamEvent,
    Submit,
    TokenEvent,
    Visitor,
    Waiting,
)
from gptj_demo.returned import Lost
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message

logger = logging.getLogger(__name__)

Delivery = tuple[Stream, StreamEvent | RequestRefused]


class Dispatcher:
    """The open streams, and their port to the engine. Thread-safe.

    `ready` describes the model. `closed` says why no new requests are taken. While `is_draining`,
    further parts of requests that have begun are still taken.
    """

    def __init__(
        self, settings: Settings, send: Callable[[Submit | Cancel, Visitor | None], None]
    ) -> None:
        self.ready: Ready | None = None
        self.closed: Message | None = None
        self.is_draining = False
        self.tokens_written = 0  # by all engines together
        self.resumed = 0  # requests that went on in another engine
        self._send = send
        self._lock = threading.RLock()
        public = settings.limits == "public"
        self._admission = Admission(settings.max_waiting, shares_by_address=public)
        self._streams: dict[int, Stream] = {}  # by request id
        self._progress: dict[int, Progress] = {}  # of the streams that were submitted
        self._accepting = False
        self._preparing: set[asyncio.Future[None]] = set()  # keeps tasks from collection

    def close(self, why: Message, *, is_draining: bool) -> None:
        """Take no further requests. A reason that was given before stays."""
        self.is_draining = is_draining and self.closed is None
        self.closed = self.closed or why

    @property
    def slots_per_visitor(self) -> int:
        """Slots that one visitor gets at most; 0 before a model is known."""
        return self._admission.capacity.of_a_visitor

    @property
    def usage(self) -> Usage:
        """What is in use at present."""
        with self._lock:
            return self._admission.usage

    def has_place(self, visitor: Visitor | None) -> bool:
        """Whether a new request of the visitor can enter the queue now."""
        with self._lock:
            return self._admission.refusal(visitor) is None

    # ---- for streams; see `stream.Port`

    def register(self, stream: Stream) -> None:
        with self._lock:
            request = stream.request
            if self.closed is not None and not (self.is_draining and request.continues):
                raise RequestRefused("unavailable", self.closed)
            self._admission.enter(stream.request_id, request.visitor, request.candidates)
            self._streams[stream.request_id] = stream
            moved = self._moved()
        own = [event for one, event in moved if one is stream]
        stream.on_event(own[0] if own else Waiting(0))
        _deliver([one for one in moved if one[0] is not stream])

    async def submit(self, stream: Stream) -> None:
        ready = self.ready
        if ready is None or not self._accepting:
            return  # submitted once the engine has sent its tokenizer
        try:
            stream.submitted = await build_submit(
                stream.request_id, stream.request, stream.seed, ready
            )
        except Exception as error:
            if not isinstance(error, RequestRefused):
                logger.exception("a prompt could not be tokenized")
                error = RequestRefused("invalid", message("refused.unreadable"))
            self.forget(stream)
            stream.on_event(error)
            return
        with self._lock:
            if self.ready is None or self.ready.vocabulary is not ready.vocabulary:
                return  # `accept` prepares it again
            reserves = reservation(stream.submitted, ready.context_length)
            if self._admission.mark_ready(stream.request_id, reserves):
                self._progress[stream.request_id] = Progress(stream.submitted)
                self._fill_slots()

    def cancel(self, stream: Stream) -> None:
        why = message("end.cancelled")
        with self._lock:
            if self._admission.is_submitted(stream.request_id):
                progress = self._progress[stream.request_id]
                progress.cancelled = True
                self._send_cancel(stream)  # the engine sends the last events of those that it has
                unsent = progress.drop_unsent()
                self._admission.drop_unsent(stream.request_id)
                ended = _ends(stream, progress, unsent, "cancelled", why)
            else:
                ended = self._end(stream.request_id, "cancelled", why)
            moved = self._moved()
        _deliver([*ended, *moved])

    def forget(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.pop(stream.request_id, None) is None:
                return
            self._progress.pop(stream.request_id, None)
            was_submitted = self._admission.is_submitted(stream.request_id)
            self._admission.leave(stream.request_id)
            if was_submitted:
                self._send_cancel(stream)
                self._fill_slots()  # the engine handles messages in order
            moved = self._moved()
        _deliver(moved)

    def _fill_slots(self) -> None:
        """Submit the completions whose turn it is; with the lock held."""
        now = time.monotonic()
        for request_id, completions in Counter(self._admission.next_turns()).items():
            visitor = self._streams[request_id].request.visitor
            self._send(self._progress[request_id].next_part(completions, now), visitor)

    def _send_cancel(self, stream: Stream) -> None:
        self._send(Cancel(stream.request_id), stream.request.visitor)

    def _end(self, request_id: int, reason: FinishReason, why: Message) -> list[Delivery]:
        """Forget a request; returns its last events, which no engine sends. With the lock held."""
        stream = self._streams.pop(request_id, None)
        if stream is None:
            return []
        self._admission.leave(request_id)
        progress = self._progress.pop(request_id, None)
        all_of_them = range(stream.request.candidates)
        return _ends(stream, progress, all_of_them, reason, why)

    def _moved(self) -> list[Delivery]:
        """The events of waiting requests whose position has changed; with the lock held."""
        return [(self._streams[i], Waiting(ahead)) for i, ahead in self._admission.moved()]

    # ---- for the thread that watches the engine

    def accept(self, ready: Ready) -> None:
        """An engine has sent its tokenizer: prepare the waiting requests."""
        with self._lock:
            if self.ready is not None and self.ready.vocabulary is not ready.vocabulary:
                self._admission.unprepare()
            self.ready, self._accepting = ready, True
            late = [self._streams[i] for i in self._admission.not_ready()]
        for stream in late:
            _call_in_loop(stream.loop, self._start_preparing, stream)

    def open(self, ready: Ready, model: ModelInfo) -> None:
        """The engine has loaded its model: submit the prepared requests."""
        with self._lock:
            self.ready = replace(ready, model=model)
            self._admission.capacity = Capacity(model.max_num_seqs, model.max_tokens)
            self._admission.is_open = True
            self._fill_slots()

    def on_events(self, events: Iterable[EngineEvent]) -> None:
        """Pass on what one step of the engine produced."""
        deliveries: list[Delivery] = []
        may_submit = False
        now = time.monotonic()
        with self._lock:
            for event in events:
                request_id = event.request_id
                stream = self._streams.get(request_id)
                if stream is None:
                    continue
                forwarded = self._progress[request_id].add(event, now)
                if forwarded is not None:
                    deliveries.append((stream, forwarded))
                if isinstance(event, Started):
                    self._admission.start(request_id)
                    continue
                may_submit |= self._admission.clear(request_id)
                if isinstance(event, TokenEvent):
                    self.tokens_written += 1
                elif isinstance(event, Finished):
                    may_submit = True
                    if self._admission.end_completion(request_id):
                        del self._streams[request_id], self._progress[request_id]
            if may_submit:
                self._fill_slots()
            deliveries += self._moved()
        _deliver(deliveries)

    def suspend(
        self, why: Message, only: Iterable[int] | None = None, *, is_shared: bool = True
    ) -> None:
        """Suspend the requests of an engine that has ended: they wait for the next one.

        `why` says how the engine ended. `only` are its requests, if there are other engines;
        `is_shared` says whether visitors shared it. A cancelled request ends. A request that got no
        token from the last engines ends with an error.
        """
        deliveries: list[Delivery] = []
        with self._lock:
            self._accepting &= only is not None
            for request_id in self._admission.suspend(only):
                progress = self._progress[request_id]
                progress.suspend()
                if progress.cancelled:
                    deliveries += self._end(request_id, "cancelled", message("end.cancelled"))
                    continue
                if progress.deaths and is_shared:
                    self._admission.suspect(request_id)
                progress.deaths += 1
                if progress.deaths > MOST_DEATHS:
                    deliveries += self._end(request_id, "error", why)
                elif progress.has_started:
                    self.resumed += 1
                    deliveries.append((self._streams[request_id], Reconnecting()))
            self._fill_slots()  # if another engine is there already
            deliveries += self._moved()
        _deliver(deliveries)

    def lose(self, lost: Lost) -> None:
        """End requests that no engine can go on with."""
        deliveries: list[Delivery] = []
        with self._lock:
            for request_id in lost.request_ids:
                stream, progress = self._streams.get(request_id), self._progress.get(request_id)
                ends = self._end(request_id, "error", lost.why)
                if stream is not None and (progress is None or not progress.has_started):
                    ends = [(stream, RequestRefused(lost.kind, lost.why))]
                deliveries += ends
            self._fill_slots()
            deliveries += self._moved()
        _deliver(deliveries)

    def give_up(self, why: Message) -> None:
        """End the suspended requests with an error: no engine can go on with them."""
        with self._lock:
            ended = [one for i in self._admission.suspended() for one in self._end(i, "error", why)]
            ended += self._moved()
        _deliver(ended)

    def end_all(self, why: Message) -> None:
        """End all requests with an error, and send none until another engine is ready."""
        with self._lock:
            self._accepting = self._admission.is_open = False
            ended = [one for i in self._admission.all() for one in self._end(i, "error", why)]
        _deliver(ended)

    def _start_preparing(self, stream: Stream) -> None:
        """Submit a stream that was opened before there was a tokenizer; in its event loop."""
        preparing = asyncio.ensure_future(self.submit(stream))
        self._preparing.add(preparing)
        preparing.add_done_callback(self._preparing.discard)


def _ends(
    stream: Stream,
    progress: Progress | None,
    indexes: Iterable[int],
    reason: FinishReason,
    why: Message,
) -> list[Delivery]:
    """The last events of completions, which no engine will send."""
    deliveries: list[Delivery] = []
    for index in indexes:
        read = written = 0
        if progress is not None and progress.has_started:
            read, written = progress.prompt_tokens, progress.generated(index)
        end = Finished(stream.request_id, reason, why, "", read, written, stream.seed, index)
        deliveries.append((stream, end))
    return deliveries


def _deliver(deliveries: list[Delivery]) -> None:
    """Deliver events to their streams with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Delivery]] = {}
    for stream, event in deliveries:
        by_loop.setdefault(stream.loop, []).append((stream, event))
    for loop, batch in by_loop.items():
        _call_in_loop(loop, _deliver_batch, batch)


def _deliver_batch(batch: list[Delivery]) -> None:
    for stream, event in batch:
        stream.on_event(event)


def _call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any
) -> None:
    with contextlib.suppress(RuntimeError):  # the streams of a closed loop have no reader
        loop.call_soon_threadsafe(function, *arguments)
