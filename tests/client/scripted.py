"""A worker over a scripted backend, without an engine process."""

from __future__ import annotations

import queue
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from gptj_demo.client import Stream, Worker
from gptj_demo.client.backends.base import EngineMessage, Health, LeaseState
from gptj_demo.protocol import (
    Cancel,
    EngineStatus,
    Finished,
    FinishReason,
    ModelInfo,
    Started,
    StepEvents,
    Submit,
    TokenEvent,
    TokenizerReady,
    Visitor,
    Waiting,
)
from gptj_demo.settings import Settings
from gptj_demo.texts import Message, message
from tests.client.requests import request
from tests.engine.checkpoints import TEXT_TOKENS, make_tokenizer

END = TEXT_TOKENS - 1
CONTEXT = 64
_END = object()  # marks the end of an engine's messages
TOKENIZER = TokenizerReady(make_tokenizer().to_str(), CONTEXT, TEXT_TOKENS, END, (END,), ())


def model(**changes: Any) -> ModelInfo:
    """A made-up model; each slot has a whole context unless `changes` say otherwise."""
    if "max_num_seqs" in changes:
        changes = {"max_tokens": changes["max_num_seqs"] * CONTEXT, **changes}
    info = ModelInfo(
        name="scripted",
        revision=None,
        is_sample=False,
        maker="EleutherAI",
        licence=None,
        adapters=(),
        precision="float32",
        device="cpu",
        device_name="none",
        forward_path="eager",
        parameters=1,
        weight_bytes=4,
        context_length=CONTEXT,
        vocabulary_size=TEXT_TOKENS,
        bos_token_id=END,
        max_num_seqs=2,
        max_tokens=2 * CONTEXT,
        why=message("status.warming_up"),
    )
    return replace(info, **changes)


class ScriptedBackend:
    """An engine that sends the events of a test."""

    def __init__(self) -> None:
        self.lives = self.kills = 0
        self.sent: list[Submit | Cancel] = []
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self) -> None:
        self.lives += 1

    def send(self, message: Submit | Cancel, visitor: Visitor | None) -> None:
        self.sent.append(message)

    def events(self) -> Generator[EngineMessage | None, None, None]:
        while (received := self._messages.get()) is not _END:
            yield received

    def wait(self) -> Message:
        return message("exit.code", code="3")

    def health(self) -> Health:
        return Health(None)

    def lease(self, visitor: Visitor | None) -> LeaseState | None:
        return None

    def stop(self) -> None:
        self._messages.put(_END)

    def kill(self) -> None:
        self.kills += 1

    # ---- for the tests

    def say(self, *messages: object) -> None:
        for one in messages:
            self._messages.put(one)

    def load(self, slots: int = 2, **changes: Any) -> None:
        """Send the messages of an engine that loads and becomes ready."""
        info = model(max_num_seqs=slots, **changes)
        self.say(TOKENIZER, EngineStatus("ready", message("status.warming_up"), model=info))

    def step(self, *events: Any) -> None:
        self.say(StepEvents(events))

    @property
    def submits(self) -> list[Submit]:
        return [one for one in self.sent if isinstance(one, Submit)]

    @property
    def submitted(self) -> list[int]:
        return [one.request_id for one in self.submits]


class Bench:
    """A worker over a scripted backend, and the streams that a test opens."""

    def __init__(self) -> None:
        self.backend = ScriptedBackend()
        self.worker = Worker(Settings(max_waiting=8), self.backend)
        self.worker.start()

    async def open(self, **params: Any) -> Stream:
        stream = self.worker.stream(request("A", **params))
        assert isinstance(await anext(stream), Waiting)
        return stream


def started(stream: Stream) -> Started:
    return Started(stream.request_id, prompt_tokens=1)


def token(stream: Stream, index: int = 0) -> TokenEvent:
    return TokenEvent(stream.request_id, 5, "A", index)


def finished(stream: Stream, reason: FinishReason = "length") -> Finished:
    return Finished(stream.request_id, reason, message("end.model"), "", 1, 1, stream.seed)


async def last(stream: Stream) -> Finished:
    events = [event async for event in stream]
    assert isinstance(events[-1], Finished)
    return events[-1]
