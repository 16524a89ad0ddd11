"""Sentences about wrong values: the field, what is allowed and the value."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Playground

WHOLE = "must be a whole number from"
WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("/v1/completions", {"max_tokens": "5"}, "max_tokens", f'{WHOLE} 0 to 2048; it was "5".'),
    ("/v1/completions", {"max_tokens": 3.0}, "max_tokens", f"{WHOLE} 0 to 2048; it was 3.0."),
    ("/v1/completions", {"seed": "1"}, "seed", f'{WHOLE} 0 to 4294967295; it was "1".'),
    ("/v1/completions", {"temperature": "1"}, "temperature", 'a number from 0 to 2; it was "1".'),
    ("/v1/completions", {"logprobs": True}, "logprobs", f"{WHOLE} 0 to 20; it was true."),
    ("/v1/completions", {"logit_bias": [[1, 5]]}, "logit_bias", "it was [[1, 5]]."),
    ("/v1/completions", {"echo": 1}, "echo", "must be true or false; it was 1."),
    ("/v1/completions", {"prompt_logprobs": 21}, "prompt_logprobs", f"{WHOLE} 0 to 20; it was 21."),
    (
        "/v1/completions",
        {"truncate_prompt_tokens": -2},
        "truncate_prompt_tokens",
        f"truncate_prompt_tokens {WHOLE} 1; it was -2.",
    ),
    ("/v1/completions", {"stream": 1}, "stream", "stream must be true or false; it was 1."),
    ("/v1/completions", {"user": 5}, "user", "must be a text of at most 256 characters; it was 5."),
    (
        "/v1/completions",
        {"stream": True, "stream_options": {"include_usage": 1}},
        "stream_options",
        "stream_options.include_usage must be true or false; it was 1.",
    ),
    (
        "/v1/completions",
        {"stream": True, "stream_options": {"usage": True}},
        "stream_options",
        "There is no parameter named 'stream_options.usage'.",
    ),
    (
        "/v1/likely",
        {"prompt": ["a"]},
        "prompt",
        'prompt.0 must be a whole number from 0; it was "a".',
    ),
    ("/v1/likely", {"max_nodes": "9"}, "max_nodes", f'max_nodes {WHOLE} 1 to 1,000; it was "9".'),
    (
        "/v1/score",
        {"continuations": "a"},
        "continuations",
        "continuations must be a list of 1 to 128 texts or lists of up to 200,000 whole numbers "
        "from 0; it was",
    ),
    (
        "/v1/score",
        {"continuations": ["a", 5]},
        "continuations",
        "continuations.1 must be a text or a list of up to 200,000 whole numbers from 0; it was 5.",
    ),
    ("/v2/runs", {"data": []}, "data", "data must be a list of 1 to 2 values; it was []."),
    ("/tokenize", {"prompt": 5}, "prompt", "prompt must be a text; it was 5."),
]


@pytest.mark.parametrize(("path", "fields", "param", "said"), WRONG)
def test_a_wrong_value_is_shown_with_what_is_allowed(
    playground: Playground, path: str, fields: dict[str, Any], param: str, said: str
) -> None:
    needed = {"continuations": [" b"]} if path == "/v1/score" else {}
    answer = playground.http.post(path, json={"prompt": "a", **needed, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert said in error["message"]


def test_a_refused_prompt_of_several_is_named_by_its_place(playground: Playground) -> None:
    for prompts in (["ok", "word " * 3000], [[5], [999_999]]):
        for number in (1, 20):
            answer = playground.complete([*[prompts[0]] * number, prompts[1]], max_tokens=1)
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, "prompt")
            assert error["message"].startswith(f"Prompt {number}: ")
    alone = playground.complete(["word " * 3000]).json()["error"]["message"]
    assert alone.startswith("The text has")


@pytest.mark.parametrize(
    ("prompt", "continuations", "param", "said"),
    [
        ("a", [" b", [99_999]], "continuations", "Continuation 1: Token id 99999 is not in"),
        ("a", [" b", "x" * 200_001], "continuations", "Continuation 1: The text has 200,001"),
        ([99_999], [" b"], "prompt", "Token id 99999"),
        ("word " * 3000, [" b"], "prompt", "Continuation 0 and its prompt have"),
        ("a", [" b", "word " * 3000], "continuations", "Continuation 1 and its prompt have"),
    ],
)
def test_what_cannot_be_scored_is_named(
    playground: Playground, prompt: Any, continuations: list[Any], param: str, said: str
) -> None:
    body = {"prompt": prompt, "continuations": continuations}
    answer = playground.http.post("/v1/score", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert error["message"].startswith(said)
    assert "truncate" not in error["message"], "these routes do not have it"
