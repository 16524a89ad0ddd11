"""An engine that uses a completions server, of three kinds; see `test_failures.py` too."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gptj_demo.client.backends.choice import make_backend
from gptj_demo.client.prompt import check_served
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.protocol import (
    Cancel,
    Expansion,
    Finished,
    GenerationRequest,
    PromptScored,
    Resumption,
    Started,
    TokenEvent,
    Written,
)
from gptj_demo.returned import Lost
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.served import Served
from gptj_demo.settings import InvalidSettings, Settings
from tests.remote.conftest import (
    IDS,
    PROMPT,
    TOKENIZER,
    WORDS,
    Start,
    finished,
    running,
    text,
)
from tests.remote.standin import MODEL, Kind
from tests.waiting import PATIENCE, eventually


def test_vllm_gives_tokens_with_their_probabilities(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model.name == MODEL
    assert engine.model.context_length == 64
    engine.submit(max_new_tokens=30, logprobs=1, min_p=0.1, min_new_tokens=2, stop=("zzz",))
    assert text(engine) == WORDS
    assert [one.token_id for one in engine.events(TokenEvent)] == IDS
    (end,) = engine.events(Finished)
    assert (end.reason, end.completion_tokens) == ("stop", len(IDS))
    assert end.sum_logprob == pytest.approx(-0.5 * len(IDS))
    first = engine.events(TokenEvent)[0].logprobs
    assert first is not None
    assert (first.logprob, first.rank, first.sampled_logprob) == (-0.5, 1, None)
    assert [one.token_id for one in first.alternatives] == [IDS[0]]
    (asked,) = server.written
    assert asked["prompt"] == list(PROMPT)
    assert (asked["seed"], asked["min_p"], asked["min_tokens"], asked["max_tokens"]) == (
        5, 0.1, 2, 30
    )  # fmt: skip
    assert "stop" not in asked  # the engine applies stop strings itself
    assert "typical_p" not in asked


def test_each_kind_of_server_reports_the_controls_that_it_lacks(start: Start) -> None:
    lacks = {}
    for kind in ("vllm", "llama", "plain"):
        served = start(running(kind)).model.served  # type: ignore[arg-type]
        assert served is not None
        lacks[kind] = set(served.lacks)
    every = {control.name for control in CONTROLS}
    assert lacks["vllm"] < lacks["plain"] < every
    assert {"typical_p", "xtc_probability", "dry_multiplier", "token_healing"} <= lacks["vllm"]
    assert not lacks["vllm"] & {"min_p", "top_k", "must_match", "echo", "logprobs", "best_of"}
    assert not lacks["llama"] & {"typical_p", "repetition_penalty", "logprobs", "mirostat"}
    assert {"echo", "must_match"} <= lacks["llama"]
    assert {"logprobs", "best_of", "echo", "top_k"} <= lacks["plain"]
    assert not lacks["plain"] & {"temperature", "top_p", "seed", "stop", "n", "max_time"}


@pytest.mark.parametrize("kind", ["llama", "plain"])
def test_text_without_ids_becomes_tokens(start: Start, kind: Kind) -> None:
    server = running(kind, [TOKENIZER.encode(part).ids for part in (" keeper\u2028", "lit")])
    engine = start(server)
    assert engine.model.name == MODEL
    engine.submit(max_new_tokens=30, repetition_penalty=1.3 if kind == "llama" else 1.0)
    assert text(engine) == WORDS
    (asked,) = server.written
    if kind == "llama":
        assert (asked["repeat_penalty"], asked["mirostat"]) == (1.3, 0)
    else:
        assert asked["prompt"] == "The lamp"


@pytest.mark.parametrize(
    ("kind", "params", "field", "sent"),
    [
        ("llama", {}, "dry_sequence_breakers", ["\n", ":", '"', "*"]),
        ("llama", {"dry_sequence_breakers": ("x",)}, "dry_sequence_breakers", ["x"]),
        (
            "llama",
            {"dry_sequence_breakers": (), "dry_multiplier": 0.8},
            "dry_sequence_breakers",
            [],
        ),
        ("llama", {"dry_sequence_breakers": ()}, "dry_sequence_breakers", None),
        ("vllm", {}, "allowed_token_ids", None),
        ("vllm", {"allowed_token_ids": (5, 6)}, "allowed_token_ids", [5, 6]),
        ("vllm", {}, "bad_words", None),
        ("vllm", {"bad_words": ("x",)}, "bad_words", ["x"]),
    ],
)
def test_an_empty_list_is_sent_only_where_it_has_an_effect(
    start: Start, kind: Kind, params: dict[str, Any], field: str, sent: list[str] | None
) -> None:
    server = running(kind)
    engine = start(server)
    assert engine.model
    engine.submit(**params)
    finished(engine)
    assert server.written[0].get(field) == sent


def test_a_stop_string_ends_the_text(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    engine.submit(max_new_tokens=30, stop=("eep",))
    assert text(engine) == " k"
    assert finished(engine)[0].message.code == "end.stop"


def test_a_cancelled_request_ends_the_servers_work(start: Start) -> None:
    server = running("vllm")
    server.pauses = True
    engine = start(server)
    assert engine.model
    engine.submit(n=2)
    eventually(lambda: {one.index for one in engine.events(TokenEvent)} == {0, 1})
    assert len(engine.events(Started)) == 1
    assert sorted(asked["seed"] for asked in server.written) == [5, 6]
    engine.inbox.put(Cancel(1))
    assert [end.reason for end in finished(engine, 2)] == ["cancelled", "cancelled"]
    assert server.is_left.wait(PATIENCE)


def test_a_prompt_is_scored(start: Start) -> None:
    engine = start(running("vllm"))
    assert engine.model
    engine.submit(max_new_tokens=0, echo=True, logprobs=1)
    assert finished(engine)[0].message.code == "end.read"
    (scored,) = engine.events(PromptScored)
    assert scored.token_ids == PROMPT
    assert scored.logprobs[0] is None
    last = scored.logprobs[-1]
    assert last is not None
    assert (last.logprob, last.rank) == (-float(len(PROMPT)), 2)
    assert [one.token_id for one in last.alternatives] == [1]
    count = len(PROMPT)
    assert scored.sum_logprob == -sum(range(2, count + 1))
    assert scored.perplexity == pytest.approx(math.exp((count + 2) / 2))


def test_a_prompt_that_is_scored_in_part_is_an_error(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    server.hidden_score = 2
    engine.submit(n=2, echo=True, logprobs=1)
    ends = finished(engine, 2)
    assert {(end.index, end.reason) for end in ends} == {(0, "error"), (1, "error")}
    assert "probabilities of the prompt cannot be read" in str(ends[0].message)
    assert not server.written


def test_all_completions_wait_for_the_prompts_probabilities(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    before = len(server.asked)
    server.may_score.clear()
    engine.submit(n=3, max_new_tokens=30, echo=True, logprobs=1)
    eventually(lambda: len(server.asked) > before)
    engine.submit(2, max_new_tokens=30)  # when it has ended, the other could have begun
    finished(engine)
    assert {one.request_id for one in engine.events(TokenEvent)} == {2}
    server.may_score.set()
    finished(engine, 4)
    kinds = [type(one) for one in engine.events(object) if one.request_id == 1]
    assert kinds[:2] == [Started, PromptScored]
    assert kinds.count(PromptScored) == 1
    assert kinds.count(TokenEvent) == 3 * len(IDS)
    assert sum("prompt_logprobs" in body for body in server.asked[before:]) == 1


def test_further_completions_of_a_request_wait_for_the_same_probabilities(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    before = len(server.asked)
    server.may_score.clear()
    params = {"n": 2, "max_new_tokens": 30, "echo": True, "logprobs": 1}
    for index in (0, 1):
        engine.submit(resumption=Resumption({index: Written()}, 0.0, False), **params)
    eventually(lambda: len(server.asked) > before)
    engine.submit(2, max_new_tokens=30)
    finished(engine)
    server.may_score.set()
    finished(engine, 3)
    kinds = [type(one) for one in engine.events(object) if one.request_id == 1]
    assert kinds[:2] == [Started, PromptScored]
    assert kinds.count(PromptScored) == 1


def test_a_prompt_that_is_not_scored_ends_all_completions(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    server.refuses_scores = True
    engine.submit(n=3, echo=True, logprobs=1)
    lost = engine.wait_for(Lost)
    assert (lost.request_ids, lost.kind) == ((1,), "invalid")
    assert "no scores today" in str(lost.why)
    assert not server.written


def test_a_cancelled_request_is_no_longer_scored(start: Start) -> None:
    server = running("vllm")
    engine = start(server)
    assert engine.model
    before = len(server.asked)
    server.may_score.clear()
    engine.submit(n=2, echo=True, logprobs=1)
    eventually(lambda: len(server.asked) > before)
    engine.inbox.put(Cancel(1))
    assert [end.reason for end in finished(engine, 2)] == ["cancelled", "cancelled"]
    server.may_score.set()
    engine.submit(2, echo=True, logprobs=1)
    finished(engine, 3)
    assert [one.request_id for one in engine.events(PromptScored)] == [2]
    assert len(server.written) == 1


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"backend": "openai"}, "needs url"),
        ({"backend": "openai", "url": "localhost:8000"}, "http or https"),
        ({"backend": "openai", "url": "http://me:secret@host/v1"}, "move them to GPTJ_URL_KEY"),
        ({"backend": "openai", "url": "http://host/v1", "url_key": "a\nb"}, "line end"),
        ({"backend": "openai", "url": "http://host/v1", "engines": "2"}, "engines has no effect"),
        ({"url": "http://host/v1"}, "url is for backend openai"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidSettings, match=why) as refused:
        make_backend(Settings(**settings))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"top_k": 0, "min_p": 0.0}, None),
        ({"top_k": 5}, "top_k"),
        ({"dry_base": 2.0}, None),  # of a control that is off
        ({"logprobs": 0}, "logprobs"),
        ({"echo": True}, None),
    ],
)
def test_controls_that_the_server_lacks_are_refused_by_name(
    params: dict[str, float], name: str | None
) -> None:
    served = Served("host:1", ("top_k", "min_p", "dry_multiplier", "dry_base", "logprobs", "echo"))
    request = GenerationRequest("x", SamplingParams(**params))
    if not params.get("echo") and name is None:
        check_served(request, served)
        return
    with pytest.raises(RequestRefused, match="host:1") as refused:
        check_served(request, served)
    assert refused.value.control == name


def test_a_tree_of_likely_continuations_is_refused() -> None:
    expansion = Expansion((), (), 5, after_controls=False)
    request = GenerationRequest("x", SamplingParams(), expansion=expansion)
    with pytest.raises(RequestRefused, match="no tree"):
        check_served(request, Served("host:1", ()))
