"""Several engines behind one backend, with scripted engines that call over TCP."""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import AuthenticationError
from typing import Any

import pytest
from pydantic import SecretStr

from gptj_demo.client import watch
from gptj_demo.client.backends import fleet, host, scaling
from gptj_demo.client.backends.base import EngineMessage, Health
from gptj_demo.client.backends.calling import READY, Hello, Offer, Welcome, call
from gptj_demo.client.backends.fleet import FleetBackend
from gptj_demo.protocol import (
    Cancel,
    Compiled,
    EngineStatus,
    Finished,
    Heartbeat,
    ModelInfo,
    Refused,
    StepEvents,
    Submit,
    TokenEvent,
    TokenizerReady,
)
from gptj_demo.returned import Lapsed
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings
from gptj_demo.software import code_version
from gptj_demo.texts import message
from tests.client.parts import beginning
from tests.client.scripted import CONTEXT, TOKENIZER, model
from tests.processes import free_port
from tests.waiting import PATIENCE, eventually

SETTINGS = Settings(model="scripted")
GIVEN = SETTINGS.model_copy(update={"api_keys": SecretStr("key"), "login": SecretStr("a:b")})
"""Keys and passwords do not travel to engines."""


def submit(request_id: int, **params: Any) -> Submit:
    return Submit(request_id, (1, 2), SamplingParams(**params), seed=1)


def finished(request_id: int, index: int = 0) -> Finished:
    return Finished(request_id, "length", message("end.model"), "", 1, 1, 1, index)


class Engine:
    """A host and its engine, which do what a test says."""

    def __init__(self, offer: Offer, node: str) -> None:
        self.control = call(offer, Hello(node, offer.code))
        welcome = self.control.recv()
        assert isinstance(welcome, Welcome)
        self.connection = call(offer, welcome.number)
        assert self.connection.recv() == SETTINGS

    def load(self, slots: int = 2, tokenizer: TokenizerReady = TOKENIZER, **changes: Any) -> None:
        self.send(tokenizer, EngineStatus("loading", message("status.warming_up")))
        info = model(max_num_seqs=slots, **changes)
        self.send(EngineStatus("ready", message("status.warming_up"), model=info))

    def send(self, *messages: object) -> None:
        for one in messages:
            self.connection.send(one)

    def receive(self) -> Any:
        assert self.connection.poll(PATIENCE)
        return self.connection.recv()

    def die(self, code: int = -9) -> None:
        self.control.send(code)
        self.connection.close()

    @property
    def is_dismissed(self) -> bool:
        """Whether its host was asked to end it."""
        try:
            while self.control.poll(0):
                assert self.control.recv() == READY
        except (EOFError, ConnectionResetError):
            return True
        return False


class Fleet:
    """A backend whose engines a test starts; it is the placement too."""

    def __init__(self, fewest: int = 2, most: int = 4) -> None:
        self.offers: queue.SimpleQueue[Offer] = queue.SimpleQueue()
        self.placed: list[int] = []
        self.engines: list[Engine] = []
        self.has_stopped = False
        self.backend = FleetBackend(GIVEN, self, fewest, most)
        self.backend.start()
        self.events = self.backend.events()
        assert self.next() == EngineStatus("loading", message("status.placing"))
        self.offer = self.offers.get(timeout=PATIENCE)

    def connect(self) -> str:
        return "127.0.0.1"

    def place(self, offer: Offer, engines: int) -> None:
        self.offers.put(offer)
        self.placed.append(engines)

    def scale(self, engines: int) -> None:
        self.placed.append(engines)

    def stop(self) -> None:
        self.has_stopped = True

    def engine(self, node: str = "node") -> Engine:
        engine = Engine(self.offer, node)
        self.engines.append(engine)  # a garbage-collected engine would end
        return engine

    def ready_engine(self, slots: int = 2) -> Engine:
        engine = self.engine()
        engine.load(slots)
        self.until_slots()
        return engine

    def next(self) -> EngineMessage:
        """The next message except heartbeats; raises `StopIteration` at the end of a life."""
        while (received := next(self.events)) is None or isinstance(received, Heartbeat):
            pass
        return received

    def until_placed(self, numbers: list[int]) -> None:
        """Read until exactly these numbers of engines were requested."""
        while self.placed != numbers:
            next(self.events)

    def until_slots(self) -> int:
        """Read to the next status that says how many slots there are."""
        while not (isinstance(got := self.next(), EngineStatus) and got.model is not None):
            pass
        return got.model.max_num_seqs


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setattr(fleet, "POLL_SECONDS", 0.02)
    few = Fleet()
    with closing(few.events):
        yield few
        few.backend.stop()
    few.backend.wait()
    assert few.has_stopped


def test_the_slots_of_all_engines_add_up_and_each_engine_gets_requests(few: Fleet) -> None:
    assert few.placed == [2]
    one = few.engine()
    one.load(slots=2)
    assert few.next() == TOKENIZER
    loading = few.next()
    assert isinstance(loading, EngineStatus)
    assert loading.state == "loading"
    assert few.next() == TOKENIZER
    assert few.until_slots() == 2
    assert few.backend.health() == Health(None, 1)
    two = few.engine("other")
    two.load(slots=4, device_name="a better one")
    status = few.next()
    assert isinstance(status, EngineStatus)
    assert status.model is not None
    assert (status.model.max_num_seqs, status.model.max_tokens) == (6, 6 * CONTEXT)
    assert status.model.device_name == "a better one, none"
    few.backend.send(submit(1), None)
    few.backend.send(submit(2), None)
    assert (one.receive(), two.receive()) == (submit(1), submit(2))
    step = StepEvents((TokenEvent(2, 5, "A"), finished(2)))
    two.send(step)
    assert few.next() == step
    few.backend.send(Cancel(2), None)  # over
    few.backend.send(Cancel(1), None)
    few.backend.send(submit(3), None)
    assert one.receive() == Cancel(1)
    assert two.receive() == submit(3)


def test_an_engine_that_ends_hands_back_its_unfinished_requests(few: Fleet) -> None:
    one, _ = few.ready_engine(), few.ready_engine()
    for number in range(1, 5):
        few.backend.send(submit(number), None)
    assert [one.receive().request_id for _ in range(2)] == [1, 3]
    one.send(StepEvents((finished(1),)))
    one.die()
    assert few.next() == StepEvents((finished(1),))
    assert few.until_slots() == 2
    killed = message("exit.killed", signal="SIGKILL")
    assert few.next() == Lapsed((3,), message("end.restarted", how=killed), True)


def test_a_life_ends_with_its_last_engine_and_a_loading_engine_joins_the_next(few: Fleet) -> None:
    one, two = few.ready_engine(), few.engine()
    few.backend.send(submit(1), None)
    one.receive()
    one.die(3)
    with pytest.raises(StopIteration):
        few.next()
    assert few.backend.wait() == message("exit.code", code="3")
    two.load()  # between two lives
    eventually(lambda: few.backend.health().engines == 1)
    few.backend.send(submit(1), None)  # reaches no engine: the worker sends it again
    few.backend.start()
    few.events = few.backend.events()
    assert few.next() == TOKENIZER
    assert few.until_slots() == 2
    few.backend.send(submit(2), None)
    assert two.receive() == submit(2)


def test_engines_that_end_before_one_is_ready_end_the_life(few: Fleet) -> None:
    one, two = few.engine(), few.engine()
    one.die()
    eventually(lambda: one.is_dismissed)
    two.send(TOKENIZER)
    assert few.next() == TOKENIZER  # the other one can still get ready
    two.die(1)
    with pytest.raises(StopIteration):
        few.next()
    assert few.backend.wait() == message("exit.code", code="1")


def test_the_refusal_of_one_engine_is_ignored_while_another_is_ready(few: Fleet) -> None:
    few.ready_engine()
    other = few.engine()
    other.send(Refused("too little memory"))
    eventually(lambda: other.is_dismissed)
    few.backend.send(submit(1), None)
    assert few.backend.health().engines == 1


def test_a_refusal_of_the_first_engine_is_passed_on(few: Fleet) -> None:
    few.engine().send(Refused("no such folder"))
    assert few.next() == Refused("no such folder")
    with pytest.raises(StopIteration):
        few.next()


@pytest.mark.parametrize(
    "changes",
    [{"precision": "int8"}, {"tokenizer": TokenizerReady("{}", 64, 5, 4, (4,), ())}],
)
def test_an_engine_that_would_write_other_texts_is_not_used(
    few: Fleet, changes: dict[str, Any]
) -> None:
    few.ready_engine(slots=1)
    other = few.engine()
    other.load(**changes)
    eventually(lambda: other.is_dismissed)
    third = few.engine()
    third.load(slots=4)
    assert few.until_slots() == 5


def test_an_engine_that_has_compiled_is_started_again_once_a_machine(few: Fleet) -> None:
    first = few.engine()
    first.send(Compiled())
    eventually(lambda: first.is_dismissed)
    again = few.engine()
    again.send(Compiled())
    again.load()
    assert few.until_slots() == 2
    other = few.engine("another")
    other.send(Compiled())
    eventually(lambda: other.is_dismissed)


@pytest.mark.parametrize("part", [b"", beginning(Heartbeat(None))], ids=["between", "amid"])
def test_a_hung_engine_is_ended(few: Fleet, monkeypatch: pytest.MonkeyPatch, part: bytes) -> None:
    hung, well = few.ready_engine(), few.ready_engine()
    few.backend.send(submit(1), None)
    os.write(hung.connection.fileno(), part)
    monkeypatch.setattr(watch, "SILENCE", 5.0)  # longer than a busy machine stalls this process

    def beats_until_the_other_is_ended() -> bool:
        well.send(Heartbeat(None))
        return hung.is_dismissed

    eventually(beats_until_the_other_is_ended)
    assert few.until_slots() == 2
    lapsed = few.next()
    assert isinstance(lapsed, Lapsed)
    assert lapsed.request_ids == (1,)
    assert lapsed.why.values["how"].code == "exit.hung"


def test_engines_follow_the_load(few: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "UP_SECONDS", 0.1)
    monkeypatch.setattr(scaling, "DOWN_SECONDS", 0.5)
    one, _ = few.ready_engine(), few.ready_engine()
    for number in range(4):
        few.backend.send(submit(number), None)
    few.until_placed([2, 3])
    ends = [finished(one.receive().request_id) for _ in range(2)]
    one.send(StepEvents(tuple(ends)))
    few.until_placed([2, 3, 2])


def test_engines_are_placed_again_if_none_connects(few: Fleet) -> None:
    few.backend.kill()
    with pytest.raises(StopIteration):
        few.next()
    assert few.placed == [2, 2]
    assert few.offers.get(timeout=PATIENCE) == few.offer


def test_a_host_gives_up_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CALLING_SECONDS", 0.0)
    gave_up: list[bool] = []
    offer = Offer("127.0.0.1", free_port(), b"key", code_version())
    with pytest.raises(RuntimeError, match="the web process cannot be reached"):
        host.Host(offer, lambda: gave_up.append(True))
    assert gave_up == [True]


def test_callers_without_the_key_or_with_other_code_are_refused(few: Fleet) -> None:
    offer = few.offer
    with socket.create_connection((offer.host, offer.port)) as silent:
        with pytest.raises((AuthenticationError, EOFError, OSError)):
            call(Offer(offer.host, offer.port, b"guess", offer.code), Hello("n", offer.code))
        with closing(call(offer, Hello("node", "another version"))) as old:
            assert "other code" in old.recv()
        with closing(call(offer, 12345)) as unknown, pytest.raises((EOFError, OSError)):
            unknown.recv()
        assert few.ready_engine()  # the silent caller does not block others
        silent.settimeout(PATIENCE)
        while silent.recv(1000):  # the challenge, then the end
            pass
    assert offer.code == code_version()
    assert isinstance(model(), ModelInfo)


def test_a_placement_that_fails_refuses_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Fleet) -> str:
        raise ConnectionError("no cluster at 192.0.2.1:6379\nfurther lines")

    monkeypatch.setattr(Fleet, "connect", fail)
    monkeypatch.setattr(Fleet, "place", None)
    few = object.__new__(Fleet)
    few.has_stopped = False
    backend = FleetBackend(SETTINGS, few, 1, 1)
    backend.start()
    events = [one for one in backend.events() if one is not None]
    assert events[1:] == [Refused("no cluster at 192.0.2.1:6379")]
    backend.stop()
    backend.wait()
    assert few.has_stopped
