"""Large answers: the same JSON, written in parts between which the event loop runs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gptj_demo.api.answers import json_answer, json_parts
from tests.waiting import turns_during

from .conftest import Playground
from .test_mcp import with_client

ANSWERS: tuple[dict[str, Any], ...] = (
    {},
    {"a": None},
    {"text": 'ä 🙂 "\\\n', "choices": [], "usage": {"total": 3}},
    {"choices": [{"index": 0, "logprobs": [-0.5, -1e-07]}], "more": [1, 2]},
    {"data": [{"id": number} for number in range(100)], "x": True},
)


@pytest.mark.parametrize("fields", ANSWERS)
def test_the_parts_of_an_answer_are_its_json(fields: dict[str, Any]) -> None:
    assert json.loads(b"".join(json_parts(fields))) == fields


def test_each_object_of_a_list_is_written_by_itself() -> None:
    parts = list(json_parts({"object": "list", "choices": [{"text": "word " * 1000}] * 50}))
    assert max(map(len, parts)) < 5100
    assert len(parts) >= 50


def test_the_event_loop_runs_between_the_parts() -> None:
    turns, answer = asyncio.run(turns_during(json_answer({"choices": [{"index": 1}] * 50})))
    assert turns >= 50
    assert answer.media_type == "application/json"
    assert len(json.loads(answer.body)["choices"]) == 50


def test_a_long_text_is_tokenized_whole(playground: Playground) -> None:
    text = "🙂 once " * 8000
    answer = playground.http.post("/tokenize", json={"prompt": text}).json()
    counted = playground.http.post("/v1/internal/token-count", json={"text": text}).json()
    assert answer["count"] == counted["length"] == len(answer["token_strs"])
    assert answer["byte_offsets"] == sorted(answer["byte_offsets"])
    half = answer["tokens"][:20_000]
    back = playground.http.post("/detokenize", json={"tokens": half}).json()["prompt"]
    assert text.encode()[: answer["byte_offsets"][20_000]].decode(errors="replace") == back


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("generate", {"prompt": "Once", "max_tokens": 2000, "n": 16, "logprobs": 4}),
        ("score", {"prompt": "Once", "continuations": [[5] * 900] * 4, "logprobs": 20}),
    ],
)
def test_a_tool_refuses_to_return_too_many_log_probabilities(
    playground: Playground, tool: str, arguments: dict[str, Any]
) -> None:
    result = with_client(playground, "auto", lambda client: client.call_tool(tool, arguments))
    assert result.is_error
    assert "an answer has 50,000 at most" in result.content[0].text
