"""Scripted completions: tokens cut from a text, and the parts of a stream that need no engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from gptj_demo.client.moderation.checker import Checker
from gptj_demo.client.moderation.moderated import ModeratedStream
from gptj_demo.client.moderation.verdict import PASSED, Verdict
from gptj_demo.client.stream import Stream
from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    Passage,
    StreamEvent,
    TokenEvent,
    TokenLogprobs,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import message
from tests.waiting import PATIENCE

PLANTED = "plugh"


def tokens(parts: Iterable[str], index: int = 0) -> list[TokenEvent]:
    """One event for each part; token ids count up from 0."""
    logprobs = TokenLogprobs(-1.0, -1.0, 1, ())
    return [TokenEvent(1, i, part, index, logprobs) for i, part in enumerate(parts)]


def finished(text: str = "", index: int = 0, **fields: Any) -> Finished:
    given: dict[str, Any] = {"reason": "length", "message": message("end.model"), **fields}
    return Finished(
        1, text=text, prompt_tokens=3, completion_tokens=9, seed=7, index=index, **given
    )


def text_of(events: Sequence[StreamEvent], index: int = 0) -> str:
    return "".join(
        e.text
        for e in events
        if isinstance(e, TokenEvent | Passage | Finished) and e.index == index
    )


class Slow:
    """A filter that answers when the test releases it; every text passes."""

    def __init__(self) -> None:
        self.asked, self.release = threading.Event(), threading.Event()

    def __call__(self, text: str) -> Verdict:
        self.asked.set()
        self.release.wait(PATIENCE)
        return PASSED


class Words:
    """Flags texts that hold a word; `calls` are the texts it was asked about."""

    kind = "patterns"

    def __init__(self, word: str = PLANTED, answer: Callable[[str], Verdict] | None = None) -> None:
        self.calls: list[str] = []
        self._word = word
        self._answer = answer

    def start(self) -> None:
        pass

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        self.calls += texts
        if self._answer is not None:
            return [self._answer(text) for text in texts]
        return [Verdict(self._word in text, "word") for text in texts]

    def stop(self) -> None:
        pass


class Engine:
    """What a stream needs of the dispatcher."""

    def __init__(self) -> None:
        self.cancelled = self.forgotten = 0

    def register(self, stream: Stream) -> None:
        pass

    async def submit(self, stream: Stream) -> None:
        pass

    def cancel(self, stream: Stream) -> None:
        self.cancelled += 1

    def forget(self, stream: Stream) -> None:
        self.forgotten += 1


def moderated(
    engine: Engine, checker: Checker, action: Any = "hold", prompt: str = "", **params: Any
) -> ModeratedStream:
    request = GenerationRequest(prompt, SamplingParams(**params))
    return ModeratedStream(engine, 1, request, None, checker=checker, action=action, context=prompt)
