"""Leases of a GPU, without a GPU and without a model: a scripted engine at the other end."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from typing import Any

import pytest

from gptj_demo.client.backends import leases
from gptj_demo.client.backends.base import LeaseState
from gptj_demo.client.backends.leases import LONGEST, SHORTEST, Leases, lease_seconds
from gptj_demo.client.backends.zerogpu import explain
from gptj_demo.protocol import (
    Cancel,
    Finished,
    Resumption,
    Started,
    StepEvents,
    Submit,
    Visitor,
    Written,
)
from gptj_demo.returned import Lapsed, Lost, RefusalKind
from gptj_demo.sampling import SamplingParams
from gptj_demo.texts import Message, message
from tests.client.parts import beginning
from tests.waiting import PATIENCE, eventually

ANNA, BERT = Visitor("anna", "192.0.2.1", "token"), Visitor("bert", "192.0.2.2")


def submit(request_id: int, tokens: int = 8, **params: Any) -> Submit:
    return Submit(request_id, (1, 2), SamplingParams(max_new_tokens=tokens, **params), seed=1)


def finished(request_id: int, index: int = 0) -> Finished:
    return Finished(request_id, "length", message("end.model"), "", 1, 1, 1, index)


def broken(error: BaseException) -> tuple[RefusalKind, Message]:
    return "unavailable", message("lease.failed", reason=str(error))


Script = Callable[[Connection], None]


class Lender:
    """Runs a script as the engine of each lease, and collects what the leases pass on."""

    def __init__(self) -> None:
        self.passed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.scripts: queue.SimpleQueue[Script] = queue.SimpleQueue()
        self.lent: list[tuple[Visitor | None, int]] = []
        self.leases = Leases(self._lend, broken, self.passed.put, weight_bytes=10**9, slots=4)

    def _lend(self, visitor: Visitor | None, address: str, number: int, seconds: int) -> None:
        self.lent.append((visitor, seconds))
        script = self.scripts.get(timeout=PATIENCE)
        with Client(address, "AF_UNIX") as connection:
            connection.send(number)
            script(connection)

    def next(self) -> Any:
        return self.passed.get(timeout=PATIENCE)


@pytest.fixture
def lender() -> Iterator[Lender]:
    lender = Lender()
    yield lender
    lender.leases.stop()


def answer(count: int) -> Script:
    """Read so many requests and finish them."""

    def script(connection: Connection) -> None:
        for _ in range(count):
            request = connection.recv()
            connection.send(StepEvents((finished(request.request_id),)))

    return script


def test_requests_of_one_visitor_share_a_lease(lender: Lender) -> None:
    for visitor, request_id in ((ANNA, 1), (ANNA, 2), (BERT, 3)):
        lender.leases.send(submit(request_id), visitor)
    lender.scripts.put(answer(1))
    lender.scripts.put(answer(1))
    eventually(lambda: len(lender.lent) == 2)
    assert {visitor for visitor, _ in lender.lent} == {ANNA, BERT}
    passed = [lender.next() for _ in range(3)]
    # one script got two requests and read one: the other must be sent again
    assert sum(isinstance(one, StepEvents) for one in passed) == 2
    assert sum(isinstance(one, Lapsed) for one in passed) == 1


def test_a_lease_that_ends_hands_back_the_requests_that_it_has_not_finished(
    lender: Lender,
) -> None:
    def begin(connection: Connection) -> None:
        connection.recv()
        connection.send(StepEvents((Started(1, 2), finished(1, index=0))))

    lender.scripts.put(begin)
    lender.leases.send(submit(1, n=2), ANNA)
    assert isinstance(lender.next(), StepEvents)
    assert lender.next() == Lapsed((1,), message("lease.nothing"), False)
    assert lender.leases.state(ANNA) == LeaseState("asleep")


def test_a_lease_that_fails_loses_its_requests_and_the_next_one_works(lender: Lender) -> None:
    def fail(connection: Connection) -> None:
        connection.recv()
        raise RuntimeError("no card")

    lender.scripts.put(fail)
    lender.leases.send(submit(1), ANNA)
    lost = lender.next()
    assert lost == Lost((1,), "unavailable", message("lease.failed", reason="no card"))
    lender.scripts.put(answer(1))
    lender.leases.send(submit(2), ANNA)
    assert lender.next() == StepEvents((finished(2),))


def test_a_visitor_sees_the_lease_sleep_wake_and_run_out(lender: Lender) -> None:
    go_on = threading.Event()

    def wait(connection: Connection) -> None:
        assert connection.recv().request_id == 1
        assert go_on.wait(PATIENCE)
        assert connection.recv() == Cancel(1)
        connection.send(StepEvents((finished(1),)))

    assert lender.leases.state(ANNA) == LeaseState("asleep")
    lender.leases.send(submit(1), ANNA)
    assert lender.leases.state(ANNA) == LeaseState("waking")
    assert lender.leases.state(BERT) == LeaseState("asleep")
    lender.scripts.put(wait)
    eventually(lambda: lender.leases.state(ANNA).state == "awake")
    left = lender.leases.state(ANNA).seconds_left
    assert left is not None
    assert 0 <= left <= LONGEST
    lender.leases.send(Cancel(1), ANNA)
    go_on.set()
    assert isinstance(lender.next(), StepEvents)
    eventually(lambda: lender.leases.state(ANNA).state == "asleep")


def test_a_request_cancelled_before_its_lease_starts_ends_at_once_without_a_gpu(
    lender: Lender,
) -> None:
    let_go = threading.Event()

    def wait(connection: Connection) -> None:
        with pytest.raises((EOFError, OSError)):
            connection.recv()
        let_go.set()

    lender.leases.send(submit(1, n=2), ANNA)
    lender.leases.send(Cancel(1), ANNA)
    (*ends,) = lender.next().events
    assert [(end.request_id, end.index, end.reason) for end in ends] == [
        (1, 0, "cancelled"),
        (1, 1, "cancelled"),
    ]
    lender.scripts.put(wait)
    assert let_go.wait(PATIENCE)
    eventually(lambda: lender.leases.state(ANNA).state == "asleep")


def test_a_process_that_ends_before_it_names_its_lease_does_not_affect_other_leases(
    lender: Lender,
) -> None:
    with Client(lender.leases._address, "AF_UNIX"):
        pass
    lender.scripts.put(answer(1))
    lender.leases.send(submit(1), ANNA)
    assert lender.next() == StepEvents((finished(1),))


def test_a_process_that_hangs_before_it_names_its_lease_does_not_block_other_leases(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "CALL_SECONDS", 0.1)
    with Client(lender.leases._address, "AF_UNIX") as hung:
        os.write(hung.fileno(), beginning(1))
        lender.scripts.put(answer(1))
        lender.leases.send(submit(1), ANNA)
        assert lender.next() == StepEvents((finished(1),))


@pytest.mark.parametrize("part", [b"", beginning(StepEvents(()))], ids=["between", "amid"])
def test_a_lease_is_over_although_its_process_hangs(lender: Lender, part: bytes) -> None:
    """The lender has ended the lease, and the process has not closed its connection."""
    kept: list[int] = []

    def hang(connection: Connection) -> None:
        connection.recv()
        connection.send(StepEvents((Started(1, 2),)))
        os.write(connection.fileno(), part)
        kept.append(os.dup(connection.fileno()))

    lender.scripts.put(hang)
    lender.leases.send(submit(1), ANNA)
    assert lender.next() == StepEvents((Started(1, 2),))
    assert lender.next() == Lapsed((1,), message("lease.nothing"), False)
    os.close(kept[0])


def test_cancelling_a_waiting_part_leaves_the_running_part_of_its_request(lender: Lender) -> None:
    got, let_go = threading.Event(), threading.Event()

    def close_late(connection: Connection) -> None:
        connection.recv()
        connection.close()
        got.set()
        assert let_go.wait(PATIENCE)

    lender.scripts.put(close_late)
    lender.leases.send(submit(1, n=2), ANNA)
    assert got.wait(PATIENCE)
    part = replace(submit(1, n=3), resumption=Resumption({2: Written()}, 0.0, False))
    eventually(lambda: lender.leases._by_visitor[ANNA.name].outbox is None)
    lender.leases.send(part, ANNA)
    lender.leases.send(Cancel(1), ANNA)
    (ended,) = lender.next().events
    assert (ended.index, ended.reason) == (2, "cancelled")
    let_go.set()
    assert lender.next() == Lapsed((1,), message("lease.nothing"), False)


def test_a_stop_ends_the_leases(lender: Lender) -> None:
    ended = threading.Event()

    def wait(connection: Connection) -> None:
        connection.recv()
        with pytest.raises(EOFError):
            connection.recv()
        ended.set()

    lender.scripts.put(wait)
    lender.leases.send(submit(1), ANNA)
    eventually(lambda: lender.leases.state(ANNA).state == "awake")
    lender.leases.stop()
    assert ended.wait(PATIENCE)


def test_seconds_grow_with_what_is_asked_for_within_limits() -> None:
    six_b = 12_100_000_000

    def seconds(*submits: Submit) -> int:
        return lease_seconds(submits, six_b, slots=8)

    assert seconds(submit(1, 1)) == SHORTEST
    assert SHORTEST < seconds(submit(1, 300)) < seconds(submit(1, 600)) < LONGEST
    assert seconds(submit(1, 2000, n=9)) == LONGEST
    assert seconds(submit(1, 2000, max_time=12)) < 20
    together = [submit(number, 300) for number in range(8)]
    assert seconds(*together) == seconds(submit(1, 300))  # one batch
    assert seconds(*together, submit(9, 300)) > seconds(*together)


class Refusal(Exception):
    """As the `spaces` package raises it: Gradio's error with a title."""

    def __init__(self, title: str, said: str = "") -> None:
        self.title, self.message = title, said


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            Refusal(
                "ZeroGPU quota exceeded",
                "You have exceeded your Pro ZeroGPU quota (45s requested vs. 12s left). "
                "Try again in 3:04:05. Add credits",
            ),
            "queue_full",
            "this needs 45 s, and 12 s are left. Try again in 3:04:05",
        ),
        (Refusal("ZeroGPU quota exceeded", "Space app has reached"), "queue_full", "sign in"),
        (Refusal("ZeroGPU queue timeout"), "queue_full", "within a minute"),
        (Refusal("ZeroGPU illegal duration"), "queue_full", "fewer tokens"),
        (Refusal("ZeroGPU worker error", "GPU task aborted"), "unavailable", "taken away"),
        (Refusal("ZeroGPU worker error", "OutOfMemoryError"), "unavailable", "could not run"),
        (ValueError("odd"), "unavailable", "(odd)"),
    ],
)
def test_errors_of_the_gpu_lender_are_explained(error: Exception, kind: str, words: str) -> None:
    explained, why = explain(error)
    assert explained == kind
    assert words in str(why)
