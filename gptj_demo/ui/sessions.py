"""Bounds the memory of Gradio's sessions, in bytes, and ends sessions that nobody reads.

A visitor of Gradio chooses the session's name, and for each name Gradio keeps a copy of the page's
configuration (10,000 names), the results that were not read (without limit), and the ids of its
events (for ever). Here all sessions share one configuration, since the page keeps its state in the
browser; unread results are held as JSON, up to a number of bytes; a session without a reader ends.

This touches Gradio's internals; `tests/test_gradio_sessions.py` notices a version that changes
them:
`StateHolder` and `SessionState`; of `Queue` the methods `push`, `send_message`, `start`,
`compute_analytics_summary`, and the attributes `pending_messages_per_session`,
`pending_event_ids_session`, `event_ids_to_events`, `event_queue_per_concurrency_id`,
`active_jobs`; `Event.alive`, which ends a running generator at its next yield; of `App`
`iterators` and `iterators_to_reset`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import fastapi
import gradio as gr
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Event, Queue
from gradio.routes import App
from gradio.server_messages import (
    EventMessage,
    ProcessCompletedMessage,
    ProcessGeneratingMessage,
)
from gradio.state_holder import SessionState, StateHolder
from starlette.routing import BaseRoute

from gptj_demo.client.visitor import address_of
from gptj_demo.texts import message
from gptj_demo.ui.unread import SESSION_BYTES, Budget, Unread

logger = logging.getLogger(__name__)

MAX_NAME_CHARACTERS = 64  # Gradio's own names have 11 to 36
MAX_UNREAD_BYTES = 16 * 2**20
"""Unread results of one session: several times the largest answer, 16 completions with 20
alternatives for each token."""
MAX_TOTAL_BYTES = 64 * 2**20
"""Sessions and unread results of all visitors together."""
MAX_BODY_BYTES = 64 * 2**20
"""The bodies of all running and waiting events together; only large new bodies are refused."""
LARGE_BODY_BYTES = 64 * 2**10
READER_SECONDS = 60.0
"""How long a session with results may be without a reader."""
IDLE_SECONDS = 5.0
"""How long a session that has no event is kept."""
SWEEP_SECONDS = 2.0


class SharedState(SessionState):
    """The one session state of a page that keeps no state: reads the page's blocks, stores nothing.

    Gradio would store each visitor's latest texts here.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(blocks)
        self.config_values = {}
        stateful = [block for block in self.blocks_config.blocks.values() if block.stateful]
        if stateful:
            raise TypeError(f"the page has components with state, such as {stateful[0]}")

    def __setitem__(self, key: int, value: Any) -> None:
        """Store nothing; what a function returns still reaches its own visitor."""

    def _update_config(self, key: int) -> None:
        """Store nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Store nothing."""


class OneState(StateHolder):
    """Gives every session the same state and keeps no names."""

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.set_blocks(blocks)
        self._shared = SharedState(blocks)

    def __getitem__(self, session_id: str) -> SessionState:
        return self._shared

    def __contains__(self, session_id: str) -> bool:
        return False


class _Sessions(dict[str, Unread]):
    """Each session's unread results. Gradio sets a queue of its own, which is replaced."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._budget = Budget()

    @property
    def held_bytes(self) -> int:
        """Bytes that all sessions and their unread results take."""
        return self._budget.held + len(self) * SESSION_BYTES

    def __setitem__(self, name: str, queue: object) -> None:
        super().__setitem__(name, Unread(self._clock, self._budget))

    def __delitem__(self, name: str) -> None:
        """Forget a session; Gradio may do so with one that has ended already."""
        unread = self.pop(name, None)
        if unread is not None:
            unread.clear()


class BoundedQueue(Queue):
    """Gradio's queue of events with limits in bytes; forgets sessions that nobody reads."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        """A queue like `queue`, which must be unused."""
        super().__init__(
            live_updates=queue.live_updates,
            concurrency_count=queue.max_thread_count,
            update_intervals=queue.update_intervals,
            max_size=queue.max_size,
            blocks=queue.blocks,
            default_concurrency_limit=queue.default_concurrency_limit,
        )
        self._clock = clock
        self._sessions = _Sessions(clock)
        self.pending_messages_per_session = self._sessions  # type: ignore[assignment]
        # Gradio keeps 10,000 events and makes a table of them with pandas after each one
        self.ANALYTICS_MAX_EVENTS = 1
        self.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize
        self._sweeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        super().start()  # type: ignore[no-untyped-call]
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep_regularly())

    async def push(
        self, body: PredictBodyInternal, request: fastapi.Request, username: str | None
    ) -> Any:
        """Take an event; refuse it if the session's name, body or number of events is too large."""
        name = body.session_hash
        if name is not None and len(name) > MAX_NAME_CHARACTERS:
            return False, str(message("refused.session_name", most=MAX_NAME_CHARACTERS)), "error"
        if self._is_too_much(name, request):
            return False, str(message("refused.page_full")), "queue_full"
        return await super().push(body, request, username)

    def _is_too_much(self, name: str | None, request: fastapi.Request) -> bool:
        sessions = self._sessions
        if name not in sessions and sessions.held_bytes >= MAX_TOTAL_BYTES:
            self.sweep()
            if sessions.held_bytes >= MAX_TOTAL_BYTES:
                return True
        events = list(self.event_ids_to_events.values())
        size = _body_size(request)
        if size > LARGE_BODY_BYTES and (
            size + sum(_body_size(event.request) for event in events) > MAX_BODY_BYTES
        ):
            return True
        # One address may have a quarter of all events, once half of them are taken.
        most = min(self.max_thread_count, self.max_size or self.max_thread_count)
        if len(events) < most // 2:
            return False
        address = address_of(request)
        return sum(address_of(event.request) == address for event in events) >= most // 4

    def send_message(self, event: Event, event_message: EventMessage) -> None:
        """Hold a message until it is read; ends the session's events if it holds too much."""
        if not event.alive:
            return
        unread = self._sessions.get(event.session_hash)
        if unread is None:  # the session has ended
            event.alive = False
            return
        event_message.event_id = event._id
        # With simple_format each update is the whole answer: an unread one is out of date.
        whole = event.data is not None and event.data.simple_format
        unread.add(
            event_message, replaces=whole and isinstance(event_message, ProcessGeneratingMessage)
        )
        if unread.size > MAX_UNREAD_BYTES:
            self._refuse_to_hold(event.session_hash)

    def compute_analytics_summary(self, records: Any) -> Any:
        """Compute nothing; the page has no monitoring."""
        return self.cached_event_analytics_summary

    # ---- ends

    def sweep(self) -> None:
        """Forget sessions without events, and end those without a reader."""
        now = self._clock()
        for name, unread in list(self._sessions.items()):
            has_events = bool(self.pending_event_ids_session.get(name))
            if unread.quiet_seconds(now) > (READER_SECONDS if has_events else IDLE_SECONDS):
                self._forget(name)
        if self._sessions.held_bytes > MAX_TOTAL_BYTES:
            self._forget_the_quietest(now)
        for name in [name for name in self.pending_event_ids_session if name not in self._sessions]:
            del self.pending_event_ids_session[name]

    def _forget_the_quietest(self, now: float) -> None:
        """Forget sessions until half of the bytes are free, those not read for longest first."""
        by_quiet = sorted(self._sessions.items(), key=lambda item: -item[1].quiet_seconds(now))
        for name, _ in by_quiet:
            if self._sessions.held_bytes <= MAX_TOTAL_BYTES // 2:
                return
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._end_events(name)
        del self._sessions[name]
        self.pending_event_ids_session.pop(name, None)

    def _refuse_to_hold(self, name: str) -> None:
        """Replace a session's unread results by an error message, and end its events."""
        unread = self._sessions[name]
        unread.clear()
        self._end_events(name)
        output = {"error": str(message("end.unread"))}
        for event_id in self.pending_event_ids_session.get(name, ()):
            unread.add(ProcessCompletedMessage(output=output, success=False, event_id=event_id))

    def _end_events(self, name: str) -> None:
        """End the events of a session that run or wait."""
        for event_id in list(self.pending_event_ids_session.get(name, ())):
            event = self.event_ids_to_events.get(event_id)
            if event is None:
                continue
            event.alive = False  # Gradio closes a running generator at its next yield
            waiting = self.event_queue_per_concurrency_id[event.concurrency_id].queue
            if event in waiting:
                waiting.remove(event)
                del self.event_ids_to_events[event_id]

    async def _sweep_regularly(self) -> None:
        while not self.stopped:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                self.sweep()
                await self._close_lost_iterators()
            except Exception:  # the next sweep may work
                logger.exception("sessions could not be swept")

    async def _close_lost_iterators(self) -> None:
        """Close generators that a caller began outside of the queue with its own event id."""
        app = self.server_app
        if app is None:
            return
        app.iterators_to_reset.intersection_update(self.event_ids_to_events)
        for event_id in [one for one in app.iterators if one not in self.event_ids_to_events]:
            iterator = app.iterators.pop(event_id)
            with contextlib.suppress(Exception):
                await iterator.aclose()


def _body_size(request: fastapi.Request) -> int:
    """Bytes of a request's body as its header says; for a chunked body a guess."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdigit() else LARGE_BODY_BYTES + 1


def bound_queue(page: gr.Blocks) -> None:
    """Give the page a bounded queue; call it after `page.queue()` and before it is served."""
    page._queue = BoundedQueue(page._queue)


def share_state(page: gr.Blocks, mounted: BaseRoute) -> None:
    """Give all sessions of the page one state; `mounted` is the route of Gradio's application."""
    application = getattr(mounted, "app", None)
    if not isinstance(application, App):
        raise TypeError(f"Gradio's application was expected, not {application!r}")
    application.state_holder = OneState(page)
