"""How often /complete and /compare send their whole answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from gptj_demo.ui import compare, gradio_api
from gptj_demo.ui.comparison import Comparison


def test_the_longer_an_answer_is_the_less_often_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def events_for(*given: Any, **named: Any) -> AsyncIterator[tuple[Any, list[int]]]:
        for number in range(1000):
            yield None, [number]

    def add_to(answer: dict[str, Any], worker: Any, stream: Any, events: list[int]) -> None:
        answer["prompt"] = events[0]

    async def updates() -> list[int]:
        complete: Any = gradio_api._complete(None)  # type: ignore[arg-type]
        return [update["prompt"] async for update in complete()]

    monkeypatch.setattr(gradio_api, "_events_for", events_for)
    monkeypatch.setattr(gradio_api, "_add_to", add_to)
    sent = asyncio.run(updates())
    assert sent[:16] == [*range(16)]
    assert sent[-1] == 999
    assert len(sent) < 100


def test_a_comparison_is_not_sent_again_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def events(self: Comparison) -> AsyncIterator[list[dict[str, Any]]]:
        for _ in range(500):
            yield []
        self.outcomes[1] = {"state": "done", "text": "b", "tokens": 1}
        yield [{"cell": 1}]
        yield []

    async def updates() -> list[dict[str, Any]]:
        caller = SimpleNamespace(client=None, headers={})
        function: Any = compare._compare(None)  # type: ignore[arg-type]
        asked = {"placeholders": {"x": ["1", "2"]}}
        return [update async for update in function(caller, "A {x}", **asked)]

    monkeypatch.setattr(Comparison, "updates", events)
    sent = asyncio.run(updates())
    assert len(sent) < 10
    assert all(update["prompts"] == ("A 1", "A 2") for update in sent)
    assert [cell["text"] for cell in sent[0]["cells"]] == ["", ""]
    assert [cell["text"] for cell in sent[-1]["cells"]] == ["", "b"]
