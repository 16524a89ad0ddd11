"""The engine of a lease: when it lets go of the GPU."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from gptj_demo.engine import lent
from gptj_demo.engine.load import Refusal
from gptj_demo.protocol import Cancel, Finished, Submit
from gptj_demo.sampling import SamplingParams
from gptj_demo.settings import Settings


class ScriptedEngine:
    """Works for as many steps as a request has tokens."""

    def __init__(self) -> None:
        self.work: dict[int, int] = {}

    @property
    def is_idle(self) -> bool:
        return not self.work

    def submit(self, request: Submit) -> None:
        self.work[request.request_id] = request.params.max_new_tokens

    def cancel(self, request_id: int) -> list[Finished]:
        self.work.pop(request_id, None)
        return []

    def step(self) -> list[Any]:
        self.work = {i: left - 1 for i, left in self.work.items() if left > 1}
        return []


class ScriptedConnection:
    """Has messages to read, and notes how long it was asked to wait for them."""

    def __init__(self, *messages: Submit | Cancel) -> None:
        self.messages = list(messages)
        self.waits: list[float] = []

    def poll(self, seconds: float = 0.0) -> bool:
        if seconds:
            self.waits.append(seconds)
        return bool(self.messages)

    def recv(self) -> Submit | Cancel:
        return self.messages.pop(0)

    def send(self, message: object) -> None:
        pass


def answer(engine: Any, connection: Any, deadline: float) -> None:
    channel: Connection = connection
    lent._answer(engine, channel, deadline)


def submit(request_id: int, tokens: int) -> Submit:
    return Submit(request_id, (1,), SamplingParams(max_new_tokens=tokens), seed=1)


def test_a_lease_waits_at_most_one_second_for_another_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lent.time, "monotonic", lambda: 0.0)
    engine, connection = ScriptedEngine(), ScriptedConnection(submit(1, 5))
    answer(engine, connection, deadline=60.0)
    assert connection.waits == [lent.HOLD_SECONDS] * 2  # before the request and after it
    assert lent.HOLD_SECONDS <= 1
    assert engine.is_idle


def test_a_lease_drops_unfinished_requests_at_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(lent.time, "monotonic", lambda: float(next(clock)))
    engine, connection = ScriptedEngine(), ScriptedConnection(submit(1, 5), submit(2, 2000))
    answer(engine, connection, deadline=60.0)
    assert engine.is_idle  # for the next lease of this process
    assert next(clock) < 100


def test_int8_is_refused_where_a_gpu_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lent.loading.make_plan(Settings(model="sample"))
    object.__setattr__(plan, "device", "cuda")
    object.__setattr__(plan, "precision", "int8")
    monkeypatch.setattr(lent.loading, "make_plan", lambda settings: plan)
    with pytest.raises(Refusal, match="int8 is not used on ZeroGPU"):
        lent.load(Settings(model="sample"), lambda _: None)


def test_a_lent_model_is_loaded_on_the_cpu_and_described() -> None:
    sent: list[object] = []
    loaded = lent.load(Settings(model="sample", max_num_seqs=2), sent.append)
    assert loaded.model.max_num_seqs == 2
    assert "A GPU is lent" in str(loaded.model.why)
    assert all(p.device == torch.device("cpu") for p in loaded.weights.model.parameters())
