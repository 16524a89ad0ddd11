"""An engine that asks a stand-in for a completions server, in a thread of this process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.remote import ServerLost, serve, serving
from gptj_demo.protocol import (
    EngineStatus,
    Finished,
    ModelInfo,
    Resumption,
    StepEvents,
    Submit,
    TokenEvent,
)
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from tests.engine.checkpoints import make_checkpoint, make_tokenizer
from tests.remote.standin import KEY, Kind, StandIn
from tests.waiting import PATIENCE, eventually

TOKENIZER = make_tokenizer()
PROMPT = tuple(TOKENIZER.encode("The lamp").ids)
WORDS = " keeper\u2028lit"
IDS = TOKENIZER.encode(WORDS).ids
ONE_BY_ONE = [[token_id] for token_id in IDS]
Sent = TypeVar("Sent")


class Engine:
    """Keeps the messages that `serve` sends for a stand-in; `ended` is its exception."""

    def __init__(self, settings: Settings) -> None:
        self.sent: list[Any] = []
        self.ended: BaseException | None = None
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._settings = settings
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            serve(self._settings, self.inbox, self.sent.append)
        except (Refusal, ServerLost) as error:
            self.ended = error

    def join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    @property
    def model(self) -> ModelInfo:
        """The model, once the engine is ready."""
        statuses = self.messages
        return eventually(lambda: next((s.model for s in statuses(EngineStatus) if s.model), None))

    def details(self) -> list[str]:
        """What the engine says of its state."""
        return [str(status.detail) for status in self.messages(EngineStatus)]

    def events(self, kind: type[Sent]) -> list[Sent]:
        """The events of this kind so far."""
        steps = self.messages(StepEvents)
        return [event for step in steps for event in step.events if isinstance(event, kind)]

    def submit(
        self, request_id: int = 1, *, resumption: Resumption | None = None, **params: Any
    ) -> None:
        values = {"max_new_tokens": 4, **params}
        sampling = SamplingParams(**values)
        self.inbox.put(Submit(request_id, PROMPT, sampling, seed=5, resumption=resumption))

    def messages(self, kind: type[Sent]) -> list[Sent]:
        """The messages of this kind so far."""
        return [one for one in list(self.sent) if isinstance(one, kind)]

    def wait_for(self, kind: type[Sent]) -> Sent:
        """The first message of this kind that is no event."""
        return eventually(lambda: next(iter(self.messages(kind)), None))


Start = Callable[..., Engine]


def finished(engine: Engine, count: int = 1) -> list[Finished]:
    eventually(lambda: len(engine.events(Finished)) >= count)
    return engine.events(Finished)


def text(engine: Engine) -> str:
    (end,) = finished(engine)
    return "".join(one.text for one in engine.events(TokenEvent)) + end.text


def running(kind: Kind, script: list[list[int]] = ONE_BY_ONE, finish: str = "stop") -> StandIn:
    server = StandIn(kind, script, finish=finish)
    server.start()
    return server


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts an engine for a stand-in; both are ended after the test."""
    monkeypatch.setattr(serving, "CHECK_SECONDS", 0.05)
    monkeypatch.setattr(serving, "LOOK_SECONDS", 0.05)
    started: list[tuple[StandIn, Engine]] = []

    def make(server: StandIn, **settings: Any) -> Engine:
        given = {"url": server.url, "url_key": KEY, "tokenizer": str(folder), **settings}
        engine = Engine(Settings(backend="openai", **given))
        started.append((server, engine))
        return engine

    yield make
    for server, engine in started:
        server.stop()
        engine.join()
