"""How often the function /complete sends its whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gptj_demo.ui import gradio_api


def test_the_longer_an_answer_is_the_less_often_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def events_for(worker: Any, values: Any) -> AsyncIterator[tuple[Any, list[int]]]:
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
