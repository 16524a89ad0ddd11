"""KoboldAI's and KoboldCpp's routes."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.processes import ROOT
from tests.waiting import eventually

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


def test_invalid_fields_are_refused_and_a_long_prompt_is_truncated(playground: Playground) -> None:
    orders: list[Any] = [[7], [[0]], [0, 0], "0"]
    for wrong in (
        {"singleline": True}, {"max_length": 0.5}, {"n": 99}, {"genkey": 1},
        *({"sampler_order": order} for order in orders),
    ):  # fmt: skip
        answer = playground.http.post(GENERATE, json={"prompt": PROMPT, **wrong})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] in (*wrong, "max_tokens")
    long = result(playground, prompt="word " * 3000, max_length=2)
    assert long["finish_reason"] == "length"


def test_a_generation_can_be_aborted_after_another_with_the_same_key_has_ended(
    playground: Playground,
) -> None:
    found: list[Any] = []
    body = {"prompt": PROMPT, "max_length": 900, "use_default_badwordsids": True, "n": 16}

    def ask() -> None:
        found.extend(playground.http.post(GENERATE, json=body).json()["results"])

    waiting = threading.Thread(target=ask)
    waiting.start()
    eventually(lambda: playground.metrics()["gptj_streams_running"])
    result(playground, max_length=1)
    assert playground.http.post("/api/extra/abort", json={}).json()["success"]
    waiting.join()
    assert any(one["finish_reason"] is None for one in found)


def test_a_stream_of_several_texts_is_refused(playground: Playground) -> None:
    body = {"prompt": PROMPT, "n": 2}
    answer = playground.http.post("/api/extra/generate/stream", json=body)
    assert answer.status_code == 400
    assert "A stream has one text" in answer.text
