"""Streams with a filter: several completions, best_of, closing, slow and failing filters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.client.moderation.checker import Checker
from gptj_demo.client.moderation.classifier import Classifier
from gptj_demo.client.moderation.moderated import ModeratedStream
from gptj_demo.client.moderation.patterns import Patterns
from gptj_demo.client.moderation.verdict import PASSED, Filter, Verdict
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.protocol import Drafting, Finished, Started, StreamEvent, TokenEvent, Waiting
from gptj_demo.texts import message
from tests.client.requests import run
from tests.moderation.streams import (
    PLANTED,
    Engine,
    Slow,
    Words,
    finished,
    moderated,
    text_of,
    tokens,
)
from tests.waiting import PATIENCE

LEFT_OUT = str(message("filter.left_out"))
TEXT = ["Fine.", f" Then {PLANTED}", " came.", " Good."]


def scenario(
    filter: Filter, test: Callable[[Checker], Awaitable[Any]], seconds: float = 60.0
) -> Any:
    checker = Checker(filter, seconds, pause=0.0)
    checker.start()
    try:
        return run(test(checker))  # type: ignore[arg-type]
    finally:
        checker.stop()


async def fill(stream: ModeratedStream, events: Sequence[Any]) -> list[StreamEvent]:
    """Let the stream receive events once it is open; returns all that can be taken."""
    taken = await stream.drain(0.0)
    for event in events:
        stream.on_event(event)
    return taken + [event async for event in stream]


def test_a_flagged_sentence_is_left_out_of_a_stream() -> None:
    async def test(checker: Checker) -> list[StreamEvent]:
        async with aclosing(moderated(Engine(), checker)) as stream:
            return await fill(stream, [Waiting(0), Started(1, 3), *tokens(TEXT), finished()])

    events = scenario(Words(), test)
    assert events[:2] == [Waiting(0), Started(1, 3)]
    assert text_of(events) == f"Fine. {LEFT_OUT} Good."
    assert [type(event) for event in events].count(Finished) == 1


def test_completions_hold_back_independently() -> None:
    async def test(checker: Checker) -> None:
        stream = moderated(Engine(), checker, n=2)
        await stream.drain(0.0)
        stream.on_event(tokens(["No end yet"], 0)[0])
        for event in [*tokens(["Done.", " Next"], 1)]:
            stream.on_event(event)
        async for event in stream:
            assert isinstance(event, TokenEvent)
            assert (event.index, event.text) == (1, "Done.")
            break
        assert not stream.has_events
        stream.on_event(finished(index=0))
        stream.on_event(finished(index=1))
        events = [event async for event in stream]
        assert text_of(events, 0) == "No end yet"
        assert text_of(events, 1) == " Next"
        assert stream.done

    scenario(Words(), test)


def test_only_the_best_of_several_candidates_are_checked() -> None:
    filter = Words()

    async def test(checker: Checker) -> list[StreamEvent]:
        stream = moderated(Engine(), checker, n=1, best_of=2)
        return await fill(
            stream,
            [
                *tokens(["Worse."], 0),
                *tokens(["Better.", f" {PLANTED}."], 1),
                finished(index=0, sum_logprob=-90.0),
                finished(index=1, sum_logprob=-1.0),
            ],
        )

    events = scenario(filter, test)
    assert [event for event in events if isinstance(event, Drafting)][-1] == Drafting(3)
    assert text_of(events) == f"Better. {LEFT_OUT}"
    assert not any("Worse" in text for text in filter.calls)


def test_ending_one_of_two_completions_lets_the_other_go_on() -> None:
    async def test(checker: Checker) -> None:
        engine = Engine()
        stream = moderated(engine, checker, "end", n=2)
        await stream.drain(0.0)
        for event in [*tokens(TEXT, 0), *tokens(["Good."], 1)]:
            stream.on_event(event)
        events: list[StreamEvent] = []
        while text_of(events, 0) != "Fine.":
            events += await stream.drain(1.0)
        await asyncio.sleep(0)
        assert engine.cancelled == 0
        for event in [finished(index=1), *tokens([" More."], 0), finished(index=0)]:
            stream.on_event(event)
        events += [event async for event in stream]
        assert text_of(events, 0) == "Fine."
        assert text_of(events, 1) == "Good."
        reasons = {e.index: e.reason for e in events if isinstance(e, Finished)}
        assert reasons == {0: "filtered", 1: "length"}

    scenario(Words(), test)


def test_ending_the_last_completion_stops_the_engine() -> None:
    async def test(checker: Checker) -> None:
        engine = Engine()
        stream = moderated(engine, checker, "end")
        await stream.drain(0.0)
        for event in tokens(TEXT):
            stream.on_event(event)
        while not engine.cancelled:
            await stream.drain(0.01)
        stream.on_event(finished(reason="cancelled"))
        events = [event async for event in stream]
        assert isinstance(events[-1], Finished)
        assert events[-1].reason == "filtered"
        assert stream.done

    scenario(Words(), test)


def test_the_end_waits_for_the_last_check() -> None:
    slow = Slow()

    async def test(checker: Checker) -> None:
        stream = moderated(Engine(), checker)
        await stream.drain(0.0)
        for event in [*tokens(["Fine."]), finished()]:
            stream.on_event(event)
        await asyncio.to_thread(slow.asked.wait, 60)
        assert stream.ended
        assert not stream.over
        assert await stream.drain(0.0) == []
        slow.release.set()
        events = [event async for event in stream]
        assert text_of(events) == "Fine."
        assert stream.done

    scenario(Words(answer=slow), test)


def test_closing_during_a_check_leaves_no_task_behind() -> None:
    slow = Slow()

    async def test(checker: Checker) -> None:
        engine = Engine()
        before = len(asyncio.all_tasks())
        stream = moderated(engine, checker)
        await stream.drain(0.0)
        for event in tokens(["Fine.", " More"]):
            stream.on_event(event)
        await asyncio.to_thread(slow.asked.wait, 60)
        await stream.aclose()
        assert engine.forgotten == 1
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
        slow.release.set()
        assert await stream.drain(0.0) == []

    scenario(Words(answer=slow), test)


@pytest.mark.parametrize("action", ["hold", "end", "mark"])
def test_unchecked_text_is_not_shown_if_the_filter_does_not_answer_in_time(action: str) -> None:
    silent = Slow()

    async def test(checker: Checker) -> list[StreamEvent]:
        stream = moderated(Engine(), checker, action)
        try:
            return await fill(stream, [*tokens(["Secret."]), finished()])
        finally:
            silent.release.set()

    events = scenario(Words(answer=silent), test, seconds=0.05)
    assert ("Secret" in text_of(events)) is (action == "mark")
    last = events[-1]
    assert isinstance(last, Finished)
    key = {"hold": "left_out_unchecked", "end": "filter_failed", "mark": "not_checked"}[action]
    said = str(message(f"end.{key}", number=1))
    assert said in str(last.message)


def test_a_filter_that_fails_is_asked_again_later() -> None:
    fails = True

    def answer(text: str) -> Verdict:
        if fails:
            raise RuntimeError("a text that must not be logged")
        return PASSED

    async def test(checker: Checker) -> None:
        nonlocal fails
        assert (await checker.judge("One.")).failed
        fails = False
        assert await checker.judge("Two.") == PASSED

    scenario(Words(answer=answer), test)


def test_stopping_the_checker_waits_for_pending_checks() -> None:
    slow = Slow()

    async def test(checker: Checker) -> None:
        questions = [asyncio.ensure_future(checker.judge(f"Number {i}.")) for i in range(3)]
        await asyncio.to_thread(slow.asked.wait, 60)
        assert checker.is_busy
        stopping = asyncio.ensure_future(asyncio.to_thread(checker.stop))
        slow.release.set()
        assert await asyncio.gather(*questions) == [PASSED] * 3
        await stopping
        assert not checker.is_busy

    scenario(Words(answer=slow), test)


def test_a_refusal_passes_at_once() -> None:
    async def test(checker: Checker) -> None:
        stream = moderated(Engine(), checker)
        await stream.drain(0.0)
        stream.on_event(RequestRefused("invalid", message("refused.unreadable")))
        with pytest.raises(RequestRefused):
            await anext(stream)
        assert stream.done

    scenario(Words(), test)


@pytest.mark.parametrize("kind", ["patterns", "classifier"])
def test_many_streams_show_none_of_a_hundred_planted_sentences(
    kind: str, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "patterns.txt").write_text(f"\\b{PLANTED}\\b")
    made: dict[str, Callable[[], Filter]] = {
        "patterns": lambda: Patterns(tmp_path / "patterns.txt"),
        "classifier": lambda: Classifier(str(model), [], 0.5, PATIENCE),
    }

    async def one(checker: Checker) -> str:
        parts = [" The", " lamp", ".", " The ", PLANTED, "."] * 4
        stream = moderated(Engine(), checker)
        return text_of(await fill(stream, [*tokens(parts), finished()]))

    async def test(checker: Checker) -> list[str]:
        return await asyncio.gather(*(one(checker) for _ in range(25)))

    shown = "".join(scenario(made[kind](), test))
    assert shown.count(PLANTED) == 0
    assert shown.count(LEFT_OUT) == 100
    assert shown.count("The lamp.") == 100
