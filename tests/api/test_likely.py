"""`/v1/likely`: the tree of the most probable continuations agrees with the completions."""

from __future__ import annotations

import math
from typing import Any

import pytest

from .conftest import Playground

PROMPT = "Once upon a time there was a king who"


def likely(playground: Playground, **body: Any) -> dict[str, Any]:
    answer = playground.http.post("/v1/likely", json={"prompt": PROMPT, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_the_first_tokens_have_the_log_probabilities_of_a_completion(
    playground: Playground,
) -> None:
    answer = likely(playground, max_nodes=200, max_depth=4)
    nodes = answer["data"]
    assert [node["id"] for node in nodes] == list(range(200))
    assert answer["after_controls"] is False
    (choice,) = playground.choices(PROMPT, max_tokens=1, logprobs=5)
    first = choice["logprobs"]["top_logprobs"][0]
    for node in nodes:
        if node["depth"] == 1 and node["token"] in first:
            assert node["logprob"] == pytest.approx(first[node["token"]], abs=1e-4)
            assert node["parent"] is None
        elif node["parent"] is not None:
            parent = nodes[node["parent"]]
            assert node["text"].startswith(parent["text"])
            total = parent["sum_logprob"] + node["logprob"]
            assert node["sum_logprob"] == pytest.approx(total, abs=1e-5)
    shares = answer["covered"]
    ones = sum(math.exp(node["logprob"]) for node in nodes if node["depth"] == 1)
    assert shares[0] == pytest.approx(ones, abs=1e-4)
    best = next(node for node in nodes if node["depth"] == 4)
    body = {"prompt": PROMPT, "continuations": [best["text"]]}
    (score,) = playground.http.post("/v1/score", json=body).json()["data"]
    assert score["sum_logprob"] == pytest.approx(best["sum_logprob"], abs=1e-3)


def test_with_controls_the_probabilities_are_those_after_the_controls(
    playground: Playground,
) -> None:
    answer = likely(playground, max_nodes=30, max_depth=3, top_k=2, min_tokens=20)
    assert answer["after_controls"] is True
    roots = [node for node in answer["data"] if node["parent"] is None]
    assert len(roots) == 2
    assert sum(math.exp(node["logprob"]) for node in roots) == pytest.approx(1, abs=1e-5)
    assert answer["covered"] == pytest.approx([1, 1, 1], abs=1e-5)
    assert len(answer["data"]) == 2 + 4 + 8


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_nodes": 0}, "max_nodes"),
        ({"max_depth": 33}, "max_depth"),
        ({"min_probability": 2}, "min_probability"),
        ({"temperature": -1}, "temperature"),
        ({"n": 2}, "n"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": "word " * 3000}, "prompt"),
    ],
)
def test_an_invalid_value_is_refused_with_its_parameter(
    playground: Playground, body: dict[str, Any], param: str
) -> None:
    answer = playground.http.post("/v1/likely", json={"prompt": PROMPT, **body})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
