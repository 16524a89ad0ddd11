"""An engine that uses a completions server that is busy, breaks off, or refuses something."""

from __future__ import annotations

import pytest

from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.remote import ServerLost, requests
from gptj_demo.protocol import (
    Cancel,
    EngineStatus,
    Resumption,
    TokenEvent,
    Written,
)
from gptj_demo.returned import Lapsed, Lost
from tests.remote.conftest import (
    IDS,
    ONE_BY_ONE,
    PROMPT,
    WORDS,
    Start,
    finished,
    running,
    text,
)
from tests.remote.standin import KEY, MODEL, StandIn
from tests.waiting import eventually


def test_a_busy_server_is_asked_again(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    server.busy = 2
    engine.submit(max_new_tokens=30)
    assert text(engine) == WORDS
    assert len(server.written) == 3


class Clock:
    """Stands for the module `time`: each request to a server takes ten seconds."""

    def __init__(self, server: StandIn) -> None:
        self._server = server

    def monotonic(self) -> float:
        return 10.0 * len(self._server.asked)


@pytest.mark.parametrize(("elapsed", "reason"), [(0.0, "stop"), (4.0, "stop"), (5.0, "length")])
def test_max_time_counts_no_waiting_for_a_busy_server(
    start: Start, monkeypatch: pytest.MonkeyPatch, elapsed: float, reason: str
) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    monkeypatch.setattr(requests, "time", Clock(server))
    server.busy = 2
    resumption = Resumption({0: Written()}, elapsed, False)
    engine.submit(max_new_tokens=30, max_time=5.0, resumption=resumption if elapsed else None)
    (end,) = finished(engine)
    assert len(server.written) == 3
    assert end.reason == reason
    if reason == "length":
        assert (end.message.code, end.completion_tokens) == ("end.time", 1)


def test_a_refusal_of_the_server_is_reported_with_its_reason(start: Start) -> None:
    engine = start(running("vllm"))
    assert engine.model
    engine.submit(top_p=0.0)
    lost = engine.wait_for(Lost)
    assert (lost.request_ids, lost.kind) == ((1,), "invalid")
    assert "top_p must be in (0, 1]" in str(lost.why)


def test_a_stream_that_breaks_off_goes_back_to_be_sent_again(start: Start) -> None:
    server = running("vllm")
    server.breaks_after = 2
    engine = start(server)
    assert engine.model
    engine.submit()
    assert engine.wait_for(Lapsed).request_ids == (1,)
    assert len(engine.events(TokenEvent)) == 2
    assert engine.ended is None


@pytest.mark.parametrize("kind", ["choices", "regex", "json", "grammar"])
def test_a_begun_text_that_must_match_is_not_continued(start: Start, kind: str) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    written = {0: Written(tuple(IDS[:1])), 1: Written()}
    matched = {"must_match": kind, "must_match_text": WORDS}
    engine.submit(n=2, max_new_tokens=30, resumption=Resumption(written, 1.0, False), **matched)
    ends = {end.index: end for end in finished(engine, 2)}
    assert (ends[0].reason, ends[0].message.code) == ("error", "end.match_interrupted")
    assert (ends[0].completion_tokens, ends[0].is_failure) == (1, True)
    assert (ends[1].reason, ends[1].completion_tokens) == ("stop", len(IDS))
    (asked,) = server.written
    assert (asked["prompt"], asked["seed"]) == (list(PROMPT), 6)
    assert "structured_outputs" in asked


def test_a_begun_text_is_continued_from_its_tokens(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    engine.submit(2, max_new_tokens=30)  # its prompt is where the stand-in's script begins
    finished(engine)
    resumption = Resumption({0: Written(tuple(IDS[:2]))}, 1.0, False)
    engine.submit(max_new_tokens=30, resumption=resumption)
    _, end = finished(engine, 2)
    assert (end.reason, end.completion_tokens) == ("stop", len(IDS))
    assert server.written[-1]["prompt"] == [*PROMPT, *IDS[:2]]
    assert server.written[-1]["max_tokens"] == 28


@pytest.mark.parametrize("status", [429, 503, 401, 404])
def test_a_broken_stream_ends_no_other_while_the_server_answers(start: Start, status: int) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    server.pauses = True
    engine.submit(2)
    eventually(lambda: engine.events(TokenEvent))
    server.models_status = status
    server.pauses, server.breaks_after = False, 2
    engine.submit(1)
    eventually(lambda: engine.ended or engine.messages(Lapsed))
    assert engine.ended is None
    assert engine.wait_for(Lapsed).request_ids == (1,)
    engine.submit(3, max_new_tokens=30)
    assert finished(engine)[0].request_id == 3
    engine.inbox.put(Cancel(2))
    assert finished(engine, 2)[1].reason == "cancelled"


@pytest.mark.parametrize("status", [502, 504])
def test_a_broken_stream_behind_a_gateway_without_its_server_ends_the_engine(
    start: Start, status: int
) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    server.models_status = status
    server.breaks_after = 1
    engine.submit()
    eventually(lambda: engine.ended)
    assert isinstance(engine.ended, ServerLost)


def test_the_engine_waits_for_the_server_and_ends_when_it_is_lost(start: Start) -> None:
    server = StandIn("vllm", ONE_BY_ONE)
    engine = start(server)
    eventually(lambda: any("Waiting for the completions" in one for one in engine.details()))
    server.start()
    assert engine.model.name == MODEL
    server.stop()
    eventually(lambda: engine.ended)
    assert isinstance(engine.ended, ServerLost)


def test_a_wrong_key_is_refused_and_never_shown(start: Start) -> None:
    engine = start(running("vllm"), url_key="wrong")
    eventually(lambda: engine.ended)
    assert isinstance(engine.ended, Refusal)
    assert "GPTJ_URL_KEY" in str(engine.ended)
    assert KEY not in str(engine.ended)
    assert "wrong" not in str(engine.ended)


def test_a_wrong_key_is_refused_where_the_list_of_models_is_open(start: Start) -> None:
    server = running("llama")
    server.lists_models, server.closes_beside = True, 401
    engine = start(server, url_key="wrong")
    eventually(lambda: engine.ended)
    assert isinstance(engine.ended, Refusal)
    assert "GPTJ_URL_KEY" in str(engine.ended)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_gateway_may_close_the_paths_outside_of_the_api(start: Start, status: int) -> None:
    server = running("vllm", [IDS])
    server.closes_beside = status
    engine = start(server)
    eventually(lambda: engine.ended or any(s.model for s in engine.messages(EngineStatus)))
    assert engine.ended is None
    served = engine.model.served
    assert served is not None
    assert "top_k" in served.lacks  # OpenAI's fields are assumed
    engine.submit(max_new_tokens=30)
    assert text(engine) == WORDS


def test_a_model_that_the_server_lacks_and_a_foreign_tokenizer_are_refused(start: Start) -> None:
    server = running("vllm")
    engine = start(server, model="other")
    eventually(lambda: engine.ended)
    assert f"has no model other; it has {MODEL}" in str(engine.ended)
    engine = start(server, tokenizer="sample")
    eventually(lambda: engine.ended)
    assert "another tokenizer" in str(engine.ended)
