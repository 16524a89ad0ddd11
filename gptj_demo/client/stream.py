"""The events of one request as an async iterator, and the ranking of `best_of`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from gptj_demo.client.backlog import Backlog
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    StreamEvent,
    Submit,
    TokenEvent,
)
from gptj_demo.sampling import MAX_SEED
from gptj_demo.texts import message


class Port(Protocol):
    """The interface of the worker for streams."""

    def register(self, stream: Stream) -> None:
        """Enter the queue; the first event comes before this returns. Raises `RequestRefused`."""

    async def submit(self, stream: Stream) -> None:
        """Tokenize, check and submit the request, or deliver a `RequestRefused`."""

    def cancel(self, stream: Stream) -> None:
        """End the engine's work; the last events of the stream follow."""

    def forget(self, stream: Stream) -> None:
        """End the engine's work; the stream takes no more events."""


class Observer(Protocol):
    """Counts requests; called in each stream's own event loop."""

    def on_open(self, stream: Stream) -> None:
        """A request was made."""

    def on_event(self, stream: Stream, event: StreamEvent | RequestRefused) -> None:
        """An event arrived; `Stream.ended` says whether it is the last."""

    def on_close(self, stream: Stream) -> None:
        """The stream was closed before its end."""


class Stream:
    """The events of one request: an async iterator that ends when all completions are `Finished`.

    With `best_of` greater than `n`, the candidates' tokens are held back until the best are known;
    `Drafting` events count them meanwhile. The best become completions 0 to n - 1, best first.

    The request is sent when the first event is awaited; that may raise `RequestRefused`. Close the
    stream (`aclose`, or `contextlib.aclosing`) when leaving early, which cancels the request.
    """

    def __init__(
        self,
        port: Port,
        request_id: int,
        request: GenerationRequest,
        observer: Observer | None = None,
    ) -> None:
        params = request.params
        candidates, n = request.candidates, request.n
        self.request_id = request_id
        self.request = request
        self.seed: int = secrets.randbelow(MAX_SEED + 1) if params.seed is None else params.seed
        self._submitted: Submit | None = None
        self._port = port
        self._observer = observer
        self._loop: asyncio.AbstractEventLoop | None = None  # None until the first event is wanted
        self._events = Backlog()  # of StreamEvent and RequestRefused
        self._arrived = asyncio.Event()
        self._unfinished = set(range(candidates))
        self._left = n  # completions whose end has not been passed on
        self._ended = False
        self._over = False
        self._ranking = _Ranking(n) if candidates > n else None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> StreamEvent:
        while not self._events:
            if self._over:
                raise StopAsyncIteration
            await self._wait(None)
        return self._take()

    async def drain(self, timeout: float | None = None) -> list[StreamEvent]:
        """All events that have arrived, waiting up to `timeout` seconds for the first one.

        The list is empty if nothing arrived in that time or the stream is over.
        """
        if not self._events and not self._over:
            await self._wait(timeout)
        return [self._take() for _ in range(len(self._events))]

    @property
    def submitted(self) -> Submit:
        """The engine's message for this request; known before any event of the engine."""
        if self._submitted is None:
            raise RuntimeError("the stream has not been prepared")
        return self._submitted

    @submitted.setter
    def submitted(self, submit: Submit) -> None:
        self._submitted = submit

    @property
    def done(self) -> bool:
        """Whether the last event has been taken."""
        return self._over and not self._events

    @property
    def has_events(self) -> bool:
        """Whether there are events to take without waiting."""
        return bool(self._events)

    @property
    def over(self) -> bool:
        """Whether the last event can be taken, or has been."""
        return self._over

    @property
    def ended(self) -> bool:
        """Whether the engine's last event has arrived; a filter may still hold it back."""
        return self._ended

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop in which `on_event` must be called; known once the stream is open."""
        if self._loop is None:
            raise RuntimeError("the stream has not been opened")
        return self._loop

    def cancel(self) -> None:
        """End the engine's work; the stream goes on to its `Finished` with reason `cancelled`."""
        if self._loop is not None and not self._ended:
            self._port.cancel(self)

    async def aclose(self) -> None:
        """End the engine's work and take no more events."""
        if self._loop is not None and not self._ended:
            self._port.forget(self)
            self._ended = True
            if self._observer is not None:
                self._observer.on_close(self)
        self._ended = self._over = True
        self._events.clear()
        self._arrived.set()  # a reader in another task waits no longer

    def on_event(self, event: StreamEvent | RequestRefused) -> None:
        """Receive an event; called in the stream's own event loop."""
        if self._ended:
            return
        if isinstance(event, Finished):
            if event.index not in self._unfinished:
                return  # the engine died after the completion had ended
            self._unfinished.remove(event.index)
        self._ended = isinstance(event, RequestRefused) or not self._unfinished
        if self._ranking is not None and isinstance(event, TokenEvent | Finished):
            self._pass_on(self._ranking.add(event, is_last=not self._unfinished))
        else:
            self._pass_on([event])
        if self._observer is not None:
            self._observer.on_event(self, event)
        if self._events.is_too_large and not self._ended and self._ranking is None:
            self._end_unread()

    def _pass_on(self, events: Sequence[StreamEvent | RequestRefused]) -> None:
        """Let events be taken."""
        if self._over:
            return
        self._events.extend(events)
        self._left -= sum(isinstance(event, Finished) for event in events)
        self._over = not self._left or any(isinstance(one, RequestRefused) for one in events)
        self._arrived.set()

    def _end_unread(self) -> None:
        """End a stream whose reader takes no events, and drop what it has not taken."""
        self._port.forget(self)
        self._events.clear()
        why = message("end.unread")
        for index in sorted(self._unfinished):
            self.on_event(Finished(self.request_id, "error", why, "", 0, 0, self.seed, index))

    async def _wait(self, timeout: float | None) -> None:
        if self._loop is None:
            await self._open()
            if self._events:
                return
        self._arrived.clear()
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), timeout)

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._observer is not None:
            self._observer.on_open(self)
        try:
            self._port.register(self)
        except RequestRefused as refusal:
            self._ended = self._over = True
            if self._observer is not None:
                self._observer.on_event(self, refusal)
            raise
        await self._port.submit(self)

    def _take(self) -> StreamEvent:
        event: StreamEvent | RequestRefused = self._events.popleft()
        if isinstance(event, RequestRefused):
            raise event
        return event


class _Ranking:
    """The candidates of `best_of`: keeps the `n` with the highest mean log-probability."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._tokens: dict[int, list[TokenEvent]] = {}
        self._ends: list[Finished] = []
        self._drafted = 0

    def add(self, event: TokenEvent | Finished, is_last: bool) -> list[StreamEvent]:
        """Events to deliver now: the number of tokens so far, at the end the winners' events."""
        if isinstance(event, TokenEvent):
            self._tokens.setdefault(event.index, []).append(event)
            self._drafted += 1
            return [Drafting(self._drafted)]
        self._ends.append(event)
        if not is_last:
            return []
        winners = sorted(self._ends, key=_merit)[: self._n]
        events: list[StreamEvent] = []
        for place, end in enumerate(winners):
            events += [token._replace(index=place) for token in self._tokens.get(end.index, ())]
            events.append(replace(end, index=place))
        return events


def _merit(end: Finished) -> tuple[bool, float, int]:
    """Sorts candidates: failed ones last, then by mean log-probability, then by index."""
    mean = -math.inf if end.mean_logprob is None else end.mean_logprob
    return end.is_failure, -mean, end.index
