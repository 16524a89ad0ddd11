"""KoboldAI's and KoboldCpp's routes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.processes import ROOT
from tests.waiting import PATIENCE, eventually

from .conftest import Playground

PROMPT = "Once upon a time there was"
BODY = json.loads((ROOT / "tests/clients/bodies/kobold-lite.json").read_text())
GENERATE = "/api/v1/generate"


def result(playground: Playground, **body: Any) -> dict[str, Any]:
    answer = playground.http.post(GENERATE, json={"prompt": PROMPT, **body})
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["results"]
    return dict(one)


def test_a_kobold_request_gives_the_text_of_an_equal_completions_request(
    playground: Playground,
) -> None:
    order = ["top_k", "top_a", "tfs", "typical_p", "top_p", "temperature"]
    rest = ["min_p", "epsilon_cutoff", "eta_cutoff", "mirostat", "xtc_probability"]
    ours = {
        "max_tokens": 8, "seed": 5, "temperature": 0.75, "top_p": 0.92, "top_k": 100,
        "repetition_penalty": 1.07, "repetition_penalty_range": 360, "stop": ["User:"],
        "sampler_order": [*order, *rest],
    }  # fmt: skip
    (choice,) = playground.choices(PROMPT, **ours)
    body = {**BODY, "sampler_seed": 5}
    assert result(playground, **body) == {"text": choice["text"], "finish_reason": "length"}
    answer = playground.http.post("/api/extra/generate/stream", json=body)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:5] == "data:"]
    assert "".join(event["token"] for event in events) == choice["text"]
    assert events[-1]["finish_reason"] == "length"


def test_version_model_and_context_length_are_reported(playground: Playground) -> None:
    def ask(path: str) -> Any:
        return playground.http.get(f"/api/{path}").json()

    assert ask("v1/info/version")["result"] >= "1.2"
    assert ask("v1/info/version?answer=other") == ask("v1/info/version")
    assert float(ask("extra/version")["version"]) >= 1.3
    model = playground.http.get("/v1/models").json()["data"][0]
    assert ask("v1/model")["result"] == model["id"]
    assert ask("v1/config/max_context_length")["value"] == model["max_model_len"]


def test_a_generation_is_aborted_by_its_key(playground: Playground) -> None:
    found: list[Any] = []
    body = {"max_length": 900, "use_default_badwordsids": True, "genkey": "mine"}
    waiting = threading.Thread(target=lambda: found.append(result(playground, **body)))
    waiting.start()
    abort = "/api/extra/abort"
    assert playground.http.post(abort, json={"genkey": "other"}).json() == {"success": False}
    eventually(lambda: playground.http.post(abort, json={"genkey": "mine"}).json()["success"])
    waiting.join()
    assert found[0]["finish_reason"] is None


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"singleline": True}, "singleline", "it was true"),
    ({"memory": "M"}, "memory", 'empty; it was "M"'),
    ({"max_length": 0.5}, "max_length", "(max_length) must be a whole number"),
    ({"max_length": "5"}, "max_length", 'from 0 to 2048; it was "5".'),
    ({"max_length": 5, "max_tokens": 7}, "max_tokens", "say different things"),
    ({"max_context_length": "2048"}, "max_context_length", 'number from 1; it was "2048".'),
    ({"max_context_length": 4.5}, "max_context_length", "number from 1; it was 4.5."),
    ({"max_context_length": 80}, "max_context_length", "none of the prompt"),
    ({"n": 99}, "n", "1 to 16"),
    ({"genkey": 1}, "genkey", "a text"),
    ({"grammar": "("}, "grammar", ""),
    ({"use_default_badwordsids": "yes"}, "use_default_badwordsids", 'it was "yes"'),
    ({"use_default_badwordsids": True, "ignore_eos": False}, "ignore_eos", "it was false"),
    ({"stream": True}, "stream", "/api/extra/generate/stream"),
    ({"stream_options": {}}, "stream_options", "/v1/completions"),
    ({"logprobs": 1}, "logprobs", "/v1/completions"),
    ({"prompt_logprobs": 1}, "prompt_logprobs", "/v1/completions"),
    ({"return_token_ids": True}, "return_token_ids", "/v1/completions"),
    ({"timings": True}, "timings", "/v1/completions"),
    ({"sampler_order": [7]}, "sampler_order", "from 0 to 6; it was [7]."),
    ({"sampler_order": [[0]]}, "sampler_order", "from 0 to 6; it was [[0]]."),
    ({"sampler_order": [0, 0]}, "sampler_order", "different numbers"),
    ({"sampler_order": [*range(7), 7]}, "sampler_order", "it was [0, 1, 2, 3, 4, 5, 6, 7]."),
    ({"sampler_order": "0"}, "sampler_order", 'it was "0"'),
    ({"prompt": "word " * 3000, "truncate": "error"}, "prompt", "(truncate = left)"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param", "said"), REFUSED)
def test_a_field_without_effect_is_refused(
    playground: Playground, fields: dict[str, Any], param: str, said: str
) -> None:
    answer = playground.http.post(GENERATE, json={"prompt": PROMPT, **fields})
    error = answer.json()["error"]
    assert answer.status_code in (400, 422)
    assert error["param"] == param
    assert said in error["message"]


def test_a_long_prompt_is_truncated(playground: Playground) -> None:
    long = result(playground, prompt="word " * 3000, max_length=2)
    assert long["finish_reason"] == "length"
    windowed = result(playground, max_context_length=6, max_length=4, sampler_seed=2)
    ids = playground.http.post("/tokenize", json={"prompt": PROMPT}).json()["tokens"]
    (choice,) = playground.choices(ids[-2:], max_tokens=4, seed=2)
    assert windowed["text"] == choice["text"]


@pytest.mark.parametrize(
    ("fields", "length"),
    [({}, 80), ({"max_length": None}, 80), ({"max_tokens": None}, 80), ({"max_tokens": 3}, 3)],
)
def test_the_length_has_a_default_of_its_own(
    playground: Playground, fields: dict[str, Any], length: int
) -> None:
    body = {"sampler_seed": 1, "use_default_badwordsids": True}
    (choice,) = playground.choices(PROMPT, max_tokens=length, seed=1, ignore_eos=True)
    assert result(playground, **body, **fields)["text"] == choice["text"]


def test_a_generation_can_be_aborted_after_another_with_the_same_key_has_ended(
    playground: Playground,
) -> None:
    found: list[Any] = []
    body = {"prompt": PROMPT, "max_length": 900, "use_default_badwordsids": True, "n": 16}
    body["genkey"] = None  # as if it were left out

    def ask() -> None:
        found.extend(playground.http.post(GENERATE, json=body).json()["results"])

    waiting = threading.Thread(target=ask)
    waiting.start()
    eventually(lambda: playground.metrics()["gptj_streams_running"])
    result(playground, max_length=1)
    with playground.paused():
        assert playground.http.post("/api/extra/abort", json={}).json()["success"]
    waiting.join(PATIENCE)
    assert any(one["finish_reason"] is None for one in found)


def begin(
    playground: Playground, found: list[Any], program: str = "mine", **body: Any
) -> threading.Thread:
    """Post a request of this program in a thread; returns once it is open."""
    before = playground.metrics()["gptj_requests_open"]
    headers = {"User-Agent": program}

    def ask() -> None:
        answer = playground.http.post(GENERATE, json={"prompt": PROMPT, **body}, headers=headers)
        found.append(answer.json()["results"])

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: playground.metrics()["gptj_requests_open"] > before)
    return asking


def aborts(playground: Playground, program: str = "mine", **body: Any) -> bool:
    headers = {"User-Agent": program}
    answer = playground.http.post("/api/extra/abort", json=body, headers=headers)
    return bool(answer.json()["success"])


def test_a_request_without_a_token_is_aborted_at_once(playground: Playground) -> None:
    found: list[Any] = []
    with playground.paused():
        asking = begin(playground, found, max_length=5, n=2, genkey="mine")
        assert aborts(playground, "another", genkey="mine")
        asking.join(PATIENCE)
        assert found == [[{"text": "", "finish_reason": None}] * 2]


def test_an_abort_without_a_key_ends_only_a_request_of_the_same_program(
    playground: Playground,
) -> None:
    mine: list[Any] = []
    others: list[Any] = []
    with playground.paused():
        asking = begin(playground, mine, max_length=1)
        assert not aborts(playground, "other")
        other = begin(playground, others, "other", max_length=1)
        keyed = begin(playground, others, max_length=1, genkey="k")
        assert aborts(playground)
        asking.join(PATIENCE)
        assert mine == [[{"text": "", "finish_reason": None}]]
    for thread in (other, keyed):
        thread.join(PATIENCE)
    assert [one["finish_reason"] for (one,) in others] == ["length"] * 2


def test_an_abort_without_a_key_ends_none_of_several_requests(playground: Playground) -> None:
    found: list[Any] = []
    with playground.paused():
        asking = [begin(playground, found, max_length=1) for _ in range(2)]
        assert not aborts(playground)
    for thread in asking:
        thread.join(PATIENCE)
    assert [one["finish_reason"] for (one,) in found] == ["length"] * 2


def test_a_stream_of_several_texts_is_refused(playground: Playground) -> None:
    body = {"prompt": PROMPT, "n": 2}
    answer = playground.http.post("/api/extra/generate/stream", json=body)
    assert answer.status_code == 400
    assert "A stream has one text" in answer.text


def test_the_streaming_route_accepts_stream_true(playground: Playground) -> None:
    body = {"prompt": PROMPT, "max_length": 2, "stream": True}
    assert playground.http.post("/api/extra/generate/stream", json=body).status_code == 200
    answer = playground.http.post("/api/extra/generate/stream", json={**body, "stream": False})
    assert answer.json()["error"]["param"] == "stream"
