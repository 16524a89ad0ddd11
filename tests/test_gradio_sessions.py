"""The memory of a Gradio session is bounded, and freed when its visitor leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import gradio as gr
import pytest
from fastapi import FastAPI, Request
from gradio.data_classes import PredictBodyInternal
from gradio.events import api
from gradio.server_messages import (
    EstimationMessage,
    EventMessage,
    ProcessCompletedMessage,
    ProcessGeneratingMessage,
)

from gptj_demo.texts import message
from gptj_demo.ui import sessions
from gptj_demo.ui.sessions import BoundedQueue, bound_queue, share_state
from gptj_demo.ui.unread import MESSAGE_BYTES, Budget, Unread
from tests.waiting import PATIENCE


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Site:
    """A small page that is mounted like ours; calls go to its queue, as the routes make them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.closed = asyncio.Event()
        with gr.Blocks(analytics_enabled=False) as page:
            text = gr.Textbox(value="initial")
            text.submit(self._grow, [text], text, api_name="submit", concurrency_limit=None)
            for function in (self._grow, self._wait):
                name = function.__name__.strip("_")
                api(function, api_name=name, concurrency_limit=None)
        page.queue(max_size=100, default_concurrency_limit=None)
        bound_queue(page)
        app = FastAPI()
        gr.mount_gradio_app(app, page, path="/")
        share_state(page, app.routes[-1])
        self.page = page
        self.text = text
        self.app: Any = app.routes[-1].app  # type: ignore[attr-defined]
        self.queue = page._queue
        assert isinstance(self.queue, BoundedQueue)
        self.queue._clock = self.clock
        self.queue._sessions._clock = self.clock
        self.queue.set_server_app(self.app)

    async def _grow(self, size: str) -> AsyncIterator[str]:
        """Yield a text ten times, with that many characters more each time."""
        text = ""
        for number in range(10):
            text += str(number) * int(size)
            yield text

    async def _wait(self, size: str) -> AsyncIterator[str]:
        """Yield the same text until the caller is gone."""
        try:
            while True:
                yield size
                await asyncio.sleep(0.001)
        finally:
            self.closed.set()

    async def call(
        self,
        name: str,
        session: str | None,
        value: str = "1",
        *,
        whole: bool = False,
        address: str = "10.0.0.1",
        body_size: int = 100,
    ) -> tuple[bool, Any, str]:
        """Put an event into the queue."""
        request = Request(
            {
                "type": "http",
                "method": "POST",
                "scheme": "http",
                "server": ("localhost", 80),
                "client": (address, 5000),
                "root_path": "",
                "path": "/gradio_api/queue/join",
                "query_string": b"",
                "headers": [(b"host", b"localhost"), (b"content-length", b"%d" % body_size)],
            }
        )
        index = next(i for i, fn in self.page.fns.items() if fn.api_name == name)
        body = PredictBodyInternal(
            session_hash=session, data=[value], fn_index=index, request=request, simple_format=whole
        )
        return await self.queue.push(body, request, None)

    async def read(self, session: str) -> list[EventMessage]:
        """All messages of a session's only event, as the route reads them."""
        messages = [await self.queue.pending_messages_per_session[session].get()]
        while not isinstance(messages[-1], ProcessCompletedMessage):
            messages.append(await self.queue.pending_messages_per_session[session].get())
        self.queue.pending_event_ids_session[session].remove(str(messages[-1].event_id))
        return messages

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    async def until_all_ended(self) -> None:
        await self.until(lambda: not self.queue.event_ids_to_events)

    def sweep(self, after: float) -> None:
        self.clock.now += after
        self.queue.sweep()

    @property
    def is_empty(self) -> bool:
        queue = self.queue
        return not (
            queue.pending_messages_per_session
            or queue.pending_event_ids_session
            or queue.event_ids_to_events
            or self.app.iterators
            or self.page.pending_diff_streams
        )


def run(scenario: Callable[[Site], Awaitable[None]]) -> None:
    """Run a scenario with a site whose queue is at work."""

    async def whole() -> None:
        site = Site()
        site.page.run_startup_events()
        try:
            await scenario(site)
        finally:
            site.queue.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    asyncio.run(asyncio.wait_for(whole(), PATIENCE))


def test_all_sessions_have_one_state_that_stores_nothing() -> None:
    async def scenario(site: Site) -> None:
        for number in range(20):
            assert (await site.call("submit", f"visitor {number}"))[0]
            last = (await site.read(f"visitor {number}"))[-1]
            assert isinstance(last, ProcessCompletedMessage)
            assert last.output["data"] == ["0123456789"]
        holder = site.app.state_holder
        assert holder["visitor 1"] is holder["visitor 2"]
        assert not holder.session_data
        assert not holder.time_last_used
        assert not list(holder["visitor 1"].components)
        assert site.text.value == "initial"

    run(scenario)


def test_a_page_that_keeps_state_on_the_server_is_refused() -> None:
    async def scenario(site: Site) -> None:
        with gr.Blocks(analytics_enabled=False) as page:
            gr.State(0)
        with pytest.raises(TypeError, match="components with state"):
            sessions.OneState(page)

    run(scenario)


def test_a_session_is_removed_after_its_results_were_read() -> None:
    async def scenario(site: Site) -> None:
        for number in range(50):
            await site.call("grow", f"visitor {number}")
            await site.read(f"visitor {number}")
        await site.until_all_ended()
        assert len(site.queue.pending_messages_per_session) == 50
        site.sweep(after=sessions.IDLE_SECONDS + 1)
        assert site.is_empty
        assert len(site.queue.event_analytics) <= 1

    run(scenario)


def test_results_that_nobody_collects_are_dropped_and_their_generator_closed() -> None:
    async def scenario(site: Site) -> None:
        await site.call("wait", "visitor")
        await site.call("grow", "another")
        await site.until(lambda: bool(site.app.iterators))
        site.sweep(after=sessions.READER_SECONDS - 1)
        assert len(site.queue.pending_messages_per_session) == 2
        site.sweep(after=2)
        await site.closed.wait()
        await site.until_all_ended()
        assert site.is_empty

    run(scenario)


def test_a_session_with_a_reader_is_kept() -> None:
    async def scenario(site: Site) -> None:
        await site.call("wait", "visitor")
        unread = site.queue.pending_messages_per_session["visitor"]
        while not isinstance(await unread.get(), ProcessGeneratingMessage):
            pass
        for _ in range(5):
            reading = asyncio.ensure_future(unread.get())
            await asyncio.sleep(0)
            site.sweep(after=sessions.READER_SECONDS - 1)
            await reading
        assert "visitor" in site.queue.pending_messages_per_session
        assert not site.closed.is_set()

    run(scenario)


def test_only_the_newest_unread_whole_answer_is_kept() -> None:
    async def scenario(site: Site) -> None:
        await site.call("grow", "visitor", "50000", whole=True)
        await site.until_all_ended()
        unread = site.queue.pending_messages_per_session["visitor"]
        assert unread.size < 3 * 500_000
        *_, update, last = await site.read("visitor")
        expected = "".join(str(number) * 50_000 for number in range(10))
        for one in (update, last):
            assert isinstance(one, ProcessGeneratingMessage | ProcessCompletedMessage)
            assert one.output["data"] == [expected]

    run(scenario)


def test_unread_updates_arrive_in_order_and_whole() -> None:
    async def scenario(site: Site) -> None:
        await site.call("grow", "visitor", "3")
        await site.until_all_ended()
        updates = [
            one.output["data"][0]
            for one in await site.read("visitor")
            if isinstance(one, ProcessGeneratingMessage)
        ]
        added = [update[0][2] for update in updates[1:]]
        assert [updates[0], *added] == [str(number) * 3 for number in range(10)]

    run(scenario)


def test_a_reader_who_leaves_too_much_unread_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MAX_UNREAD_BYTES", 300_000)

    async def scenario(site: Site) -> None:
        await site.call("grow", "visitor", "100000")
        await site.until_all_ended()
        assert site.queue.pending_messages_per_session["visitor"].size < 10_000
        last = (await site.read("visitor"))[-1]
        assert isinstance(last, ProcessCompletedMessage)
        assert not last.success
        assert last.output == {"error": str(message("end.unread"))}
        site.sweep(after=sessions.IDLE_SECONDS + 1)
        assert site.is_empty

    run(scenario)


def test_all_sessions_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_TOTAL_BYTES", 200_000)

    async def scenario(site: Site) -> None:
        answers = [await site.call("grow", f"visitor {n}", "10") for n in range(300)]
        refused = [answer for answer in answers if not answer[0]]
        assert refused
        assert {one[1:] for one in refused} == {(str(message("refused.page_full")), "queue_full")}
        await site.until_all_ended()
        site.sweep(after=1)
        assert site.queue.pending_messages_per_session.held_bytes <= 200_000
        assert (await site.call("grow", "one more"))[0]
        # the newest was kept
        assert "one more" in site.queue.pending_messages_per_session

    run(scenario)


def test_the_name_of_a_session_has_a_limit() -> None:
    async def scenario(site: Site) -> None:
        name = "x" * (sessions.MAX_NAME_CHARACTERS + 1)
        assert (await site.call("grow", name))[::2] == (False, "error")
        assert (await site.call("grow", name[1:]))[0]
        assert (await site.call("grow", None))[0]

    run(scenario)


def test_large_bodies_that_wait_have_a_limit_together() -> None:
    async def scenario(site: Site) -> None:
        size = sessions.MAX_BODY_BYTES // 4
        taken = [(await site.call("wait", f"{n}", body_size=size))[0] for n in range(6)]
        assert taken == [True] * 4 + [False] * 2
        assert (await site.call("wait", "small"))[0]

    run(scenario)


def test_one_address_gets_at_most_half_of_the_events() -> None:
    async def scenario(site: Site) -> None:
        taken = [(await site.call("wait", f"session {n}"))[0] for n in range(100)]
        most = min(site.queue.max_thread_count, 100)
        assert sum(taken) == most // 2
        assert (await site.call("wait", "person", address="10.0.0.2"))[0]

    run(scenario)


def test_a_generator_outside_of_the_queue_is_closed() -> None:
    async def scenario(site: Site) -> None:
        async def endless() -> AsyncIterator[int]:
            try:
                while True:
                    yield 1
            finally:
                site.closed.set()

        iterator = endless()
        await anext(iterator)
        site.app.iterators["made up"] = iterator
        site.app.iterators_to_reset.add("long gone")
        await site.queue._close_lost_iterators()
        assert site.closed.is_set()
        assert not site.app.iterators
        assert not site.app.iterators_to_reset

    run(scenario)


def test_unread_messages_are_counted_and_returned_unchanged() -> None:
    async def scenario() -> None:
        budget = Budget()
        unread = Unread(Clock(), budget)
        output = {"data": ["text \u00e9 \ud83d", 0.1, None, [1, {"a": 2}]], "is_generating": True}
        unread.add(EstimationMessage(queue_size=1))
        unread.add(ProcessGeneratingMessage(output=dict(output), success=True))
        assert unread.size == budget.held > 2 * MESSAGE_BYTES
        assert isinstance(await unread.get(), EstimationMessage)
        second = await unread.get()
        assert isinstance(second, ProcessGeneratingMessage)
        assert second.output == output
        assert unread.size == budget.held == 0
        unread.put_nowait(EstimationMessage(queue_size=1))
        unread.clear()
        assert unread.size == budget.held == 0

    asyncio.run(scenario())
