"""vLLM's and llama.cpp's fields of a completion, and the routes beside it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from gptj_demo.api.timings import Timings
from gptj_demo.drafts import Drafts
from gptj_demo.protocol import Finished, Started, TokenEvent
from gptj_demo.texts import message

from .conftest import Playground

PROMPT = "Once upon a time there was a king who"


def chunks(playground: Playground, **body: Any) -> list[dict[str, Any]]:
    """The objects of a stream."""
    answer = playground.complete(PROMPT, stream=True, **body)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [json.loads(line) for line in lines if line.startswith("{")]


def ids_of(playground: Playground, text: str) -> list[int]:
    return list(playground.http.post("/tokenize", json={"prompt": text}).json()["tokens"])


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_with_log_probabilities_has_one_token_per_chunk(
    playground: Playground, echo: bool
) -> None:
    body = {"max_tokens": 24, "seed": 2, "logprobs": 1, "echo": echo, "n": 2}
    whole = playground.choices(PROMPT, **body)
    texts, tokens, offsets = ["", ""], [[], []], [[], []]  # type: ignore[var-annotated]
    for chunk in chunks(playground, **body):
        (choice,) = chunk["choices"]
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) <= 1
        texts[choice["index"]] += choice["text"]
        tokens[choice["index"]] += logprobs["tokens"]
        offsets[choice["index"]] += logprobs["text_offset"]
        if logprobs["tokens"] and not logprobs["tokens"][0].startswith("bytes:"):
            assert choice["text"] in (logprobs["tokens"][0], ""), choice
    for index, choice in enumerate(whole):
        assert texts[index] == choice["text"]
        assert tokens[index] == choice["logprobs"]["tokens"]
        assert offsets[index] == choice["logprobs"]["text_offset"]


def test_prompt_logprobs_equal_the_log_probabilities_of_echo(playground: Playground) -> None:
    (echoed,) = playground.choices(PROMPT, max_tokens=4, seed=1, echo=True, logprobs=2)
    (choice,) = playground.choices(PROMPT, max_tokens=4, seed=1, prompt_logprobs=2)
    assert choice["logprobs"] is None
    assert echoed["text"] == PROMPT + choice["text"]
    probable = choice["prompt_logprobs"]
    ids = ids_of(playground, PROMPT)
    assert len(probable) == len(ids)
    assert probable[0] is None
    for token_id, entries, number, top in zip(
        ids, probable, *(echoed["logprobs"][name] for name in ("token_logprobs", "top_logprobs")),
        strict=False,
    ):  # fmt: skip
        if entries is not None:
            assert entries[str(token_id)]["logprob"] == number
            assert {one["decoded_token"]: one["logprob"] for one in entries.values()} == top
            assert sorted(one["rank"] for one in entries.values())[:2] == [1, 2]
    (fewer,) = playground.choices(
        PROMPT, max_tokens=4, seed=1, prompt_logprobs=3, logprobs=0, echo=True
    )
    assert fewer["text"] == echoed["text"]
    assert all(len(top) == 1 for top in fewer["logprobs"]["top_logprobs"] if top)
    (scored,) = playground.choices(PROMPT, max_tokens=0, prompt_logprobs=0)
    assert (scored["text"], len(scored["prompt_logprobs"])) == ("", len(ids))


def test_token_ids_are_returned_where_asked_for(playground: Playground) -> None:
    body = {"max_tokens": 8, "seed": 5, "return_token_ids": True, "ignore_eos": True}
    (choice,) = playground.choices(PROMPT, **body)
    assert choice["prompt_token_ids"] == ids_of(playground, PROMPT)
    assert len(choice["token_ids"]) == 8
    text = playground.http.post("/detokenize", json={"tokens": choice["token_ids"]}).json()
    assert text["prompt"] == choice["text"]
    streamed = [chunk["choices"][0] for chunk in chunks(playground, **body)]
    assert streamed[0]["prompt_token_ids"] == choice["prompt_token_ids"]
    assert [one["prompt_token_ids"] for one in streamed[1:]] == [None] * (len(streamed) - 1)
    assert [i for one in streamed for i in one["token_ids"]] == choice["token_ids"]
    (named,) = playground.choices(PROMPT, **body, logprobs=1, return_tokens_as_token_ids=True)
    assert named["logprobs"]["tokens"] == [f"token_id:{i}" for i in choice["token_ids"]]
    for token, top in zip(
        named["logprobs"]["tokens"], named["logprobs"]["top_logprobs"], strict=True
    ):
        assert token in top
        assert all(key.startswith("token_id:") for key in top)


@pytest.mark.parametrize("echo", [False, True])
def test_a_chunk_with_log_probabilities_has_the_ids_of_its_own_tokens(
    playground: Playground, echo: bool
) -> None:
    named = {"logprobs": 0, "return_tokens_as_token_ids": True, "return_token_ids": True}
    body = {"max_tokens": 30, "seed": 5, "n": 2, "temperature": 0.5, "echo": echo, **named}
    whole = playground.choices(PROMPT, **body)
    prompt = whole[0]["prompt_token_ids"] if echo else []
    places = [0, 0]
    ids: list[list[int]] = [[], []]
    for chunk in chunks(playground, **body):
        (choice,) = chunk["choices"]
        index, tokens = choice["index"], choice["logprobs"]["tokens"]
        place, places[index] = places[index], places[index] + len(tokens)
        shown = tokens if place >= len(prompt) else []
        assert [f"token_id:{i}" for i in choice["token_ids"]] == shown
        ids[index] += choice["token_ids"]
    assert ids == [choice["token_ids"] for choice in whole]


def test_the_ids_of_a_stop_string_are_in_the_last_chunk(playground: Playground) -> None:
    body = {"max_tokens": 40, "seed": 3, "temperature": 0, "return_token_ids": True}
    (whole,) = playground.choices(PROMPT, **body)
    stop = whole["text"][10:16]
    (stopped,) = playground.choices(PROMPT, **body, stop=stop)
    (shown,) = playground.choices(PROMPT, **body, stop=stop, logprobs=0)
    streamed = [chunk["choices"][0] for chunk in chunks(playground, **body, stop=stop, logprobs=0)]
    assert [i for one in streamed for i in one["token_ids"]] == stopped["token_ids"]
    assert shown["token_ids"] == stopped["token_ids"]
    assert all(len(one["token_ids"]) <= 1 for one in streamed[:-1])


def test_only_allowed_tokens_are_written(playground: Playground) -> None:
    allowed = ids_of(playground, " the king and")
    body = {"max_tokens": 12, "seed": 1, "return_token_ids": True, "temperature": 1.5}
    (choice,) = playground.choices(PROMPT, allowed_token_ids=allowed, **body)
    assert len(choice["token_ids"]) == 12
    assert set(choice["token_ids"]) <= set(allowed)
    answer = playground.complete(PROMPT, allowed_token_ids=[10**9])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "allowed_token_ids")


def test_a_stop_string_can_be_kept_and_at_most_32_are_accepted(playground: Playground) -> None:
    body = {"max_tokens": 60, "seed": 3, "temperature": 0}
    (whole,) = playground.choices(PROMPT, **body)
    stop = [f"never {number}" for number in range(31)] + [whole["text"][10:14]]
    (without,) = playground.choices(PROMPT, stop=stop, **body)
    (kept,) = playground.choices(PROMPT, stop=stop, include_stop_str_in_output=True, **body)
    assert kept["finish_reason"] == without["finish_reason"] == "stop"
    assert kept["text"] == without["text"] + stop[-1]
    assert whole["text"].startswith(kept["text"])
    assert playground.complete(PROMPT, stop=[*stop, "one more"]).status_code == 400


def test_truncate_prompt_tokens_keeps_the_last_tokens_of_the_prompt(playground: Playground) -> None:
    ids = ids_of(playground, PROMPT)
    body = {"max_tokens": 6, "seed": 4, "return_token_ids": True}
    (choice,) = playground.choices(PROMPT, truncate_prompt_tokens=3, **body)
    assert choice["prompt_token_ids"] == ids[-3:]
    assert [choice] == playground.choices(ids[-3:], **body)
    assert playground.choices(PROMPT, truncate_prompt_tokens=99, **body) == playground.choices(
        PROMPT, **body
    )


def test_times_are_returned_where_asked_for(playground: Playground) -> None:
    answer = playground.complete(PROMPT, max_tokens=5, timings=True, ignore_eos=True).json()
    times, usage = answer["timings"], answer["usage"]
    assert times["prompt_n"] + times["cache_n"] == usage["prompt_tokens"]
    assert times["predicted_n"] == 5
    assert all(times[name] >= 0 for name in ("queued_ms", "prompt_ms", "predicted_ms"))
    assert "timings" not in playground.complete(PROMPT, max_tokens=1).json()
    streamed = chunks(playground, max_tokens=5, timings=True, n=2)
    assert sum("timings" in chunk for chunk in streamed) == 2


def test_timings_measure_the_time_between_events() -> None:
    timings = Timings(iter([10.0, 12.0, 15.0, 17.0, 20.0]).__next__)
    for event in (Started(1, 8), TokenEvent(1, 5, "a"), TokenEvent(1, 5, "a")):
        timings.note(event)
    assert timings.json(read=8, cached=2, written=2) == {
        "queued_ms": 2000.0, "cache_n": 2,
        "prompt_n": 6, "prompt_ms": 3000.0, "prompt_per_token_ms": 500.0, "prompt_per_second": 2.0,
        "predicted_n": 2, "predicted_ms": 2000.0, "predicted_per_token_ms": 1000.0,
        "predicted_per_second": 1.0,
    }  # fmt: skip


def test_drafted_tokens_of_all_completions_are_counted() -> None:
    timings = Timings()
    for index, (drafted, accepted) in enumerate(((5, 3), (4, 0))):
        end = Finished(1, "length", message("end.model"), "", 8, 6, 0, index)
        drafts = Drafts("lookup", drafted, accepted), Drafts("model", 2, 1)
        timings.note(replace(end, drafts=drafts))
    fields = timings.json(read=8, cached=0, written=12)
    assert (fields["draft_n"], fields["draft_n_accepted"]) == (13, 5)
    assert fields["drafters"] == {
        "lookup": {"draft_n": 9, "draft_n_accepted": 3},
        "model": {"draft_n": 4, "draft_n_accepted": 2},
    }


def test_a_request_for_too_many_logprobs_is_refused_without_retry_after(
    playground: Playground,
) -> None:
    answer = playground.complete(["a"] * 128, max_tokens=2000, n=16, logprobs=5)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "logprobs")
    assert "4,000,000" in answer.json()["error"]["message"]
    assert "Retry-After" not in answer.headers


# ---- routes


def test_routes_of_other_servers_are_answered(playground: Playground) -> None:
    assert playground.http.get("/health").status_code == 200
    assert playground.http.get("/version").json()["version"]
    (model,) = playground.http.get("/v1/models").json()["data"]
    assert model["adapters"] == []
    assert model["max_model_len"] == playground.http.post(
        "/tokenize", json={"prompt": "a"}
    ).json()["max_model_len"]  # fmt: skip
    body = {"prompt": PROMPT, "max_tokens": 4, "seed": 1}
    of_engine = playground.http.post(f"/v1/engines/{model['id']}/completions", json=body)
    assert of_engine.json()["choices"] == playground.choices(PROMPT, max_tokens=4, seed=1)
    answer = playground.http.post("/v1/engines/davinci/completions", json=body)
    assert answer.status_code == 404
    body = {"prompt": "a b", "return_token_strs": True, "add_special_tokens": False}
    strings = playground.http.post("/tokenize", json=body).json()["token_strs"]
    assert "".join(strings) == "a b"
    counted = playground.http.post("/v1/internal/token-count", json={"text": PROMPT})
    assert counted.json() == {"length": len(ids_of(playground, PROMPT))}


def test_continuations_are_scored_in_their_order(playground: Playground) -> None:
    texts = [" was old", " went away", " xqz"]
    body = {"prompt": PROMPT, "continuations": texts, "logprobs": 2}
    answer = playground.http.post("/v1/score", json=body).json()
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    for text, score in zip(texts, answer["data"], strict=True):
        ids = [*ids_of(playground, PROMPT), *score["token_ids"]]
        (echoed,) = playground.choices(ids, max_tokens=0, echo=True, logprobs=0)
        own = echoed["logprobs"]["token_logprobs"][-len(score["token_ids"]) :]
        assert score["token_logprobs"] == own
        assert score["sum_logprob"] == pytest.approx(sum(own))
        detokenized = playground.http.post("/detokenize", json={"tokens": score["token_ids"]})
        assert detokenized.json()["prompt"] == text
    assert answer["usage"]["completion_tokens"] == 0
    (greedy,) = playground.choices(PROMPT, max_tokens=3, temperature=0)
    body = {"prompt": PROMPT, "continuations": [greedy["text"], " xqz"]}
    scores = playground.http.post("/v1/score", json=body).json()["data"]
    assert [one["is_greedy"] for one in scores] == [True, False]
    for wrong in ({"continuations": []}, {"continuations": ["a", ""]}, {"continuations": [[-1]]}):
        answer = playground.http.post("/v1/score", json={"prompt": PROMPT, **wrong})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "continuations")


def test_many_continuations_read_their_prompt_once(playground: Playground) -> None:
    prompt = "In a far country there lived an old fisherman and his three daughters. " * 8
    texts = [f" The {number}th day came." for number in range(20)]
    body = {"prompt": prompt, "continuations": texts}
    answer = playground.http.post("/v1/score", json=body).json()
    usage, tokens = answer["usage"], len(ids_of(playground, prompt))
    scored = sum(len(score["token_ids"]) for score in answer["data"])
    assert usage["prompt_tokens"] == 20 * tokens + scored
    read = usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    assert read <= tokens + scored + 20  # each reads the prompt's last token
    for text, score in zip(texts[:3], answer["data"], strict=False):
        (echoed,) = playground.choices(prompt + text, max_tokens=0, echo=True, logprobs=0)
        own = echoed["logprobs"]["token_logprobs"][-len(score["token_ids"]) :]
        assert score["token_logprobs"] == own


def test_a_scored_text_is_reused_from_the_prefix_cache(playground: Playground) -> None:
    text = "The miller's youngest son had nothing but a cat, and the cat wore boots. " * 6
    body = {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 3}
    first, second = (playground.http.post("/v1/completions", json=body).json() for _ in "ab")
    assert second["choices"] == first["choices"]
    usage = second["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 2


# ---- what a text must match

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"enum": [1, 2]}},
    "required": ["a"],
    "additionalProperties": False,
}
OBJECT = r'\{ ?"a" ?: ?[12] ?\}'
MATCHES: list[tuple[dict[str, Any], str]] = [
    ({"guided_choice": ["yes", "no"]}, "yes|no"),
    ({"guided_regex": "[a-c]{3}"}, "[a-c]{3}"),
    ({"guided_json": SCHEMA}, OBJECT),
    ({"guided_json": json.dumps(SCHEMA)}, OBJECT),
    ({"guided_grammar": 'start: "x" | "y"'}, "x|y"),
    ({"grammar": 'root ::= "x" | "y"'}, "x|y"),
    ({"must_match": "choices", "must_match_text": "yes\nno"}, "yes|no"),
    ({"structured_outputs": {"regex": "[a-c]{3}"}}, "[a-c]{3}"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, OBJECT),
]


@pytest.mark.parametrize(("fields", "pattern"), MATCHES)
def test_completions_match_their_constraint(
    playground: Playground, fields: dict[str, Any], pattern: str
) -> None:
    choices = playground.choices([PROMPT, "1"], max_tokens=40, seed=1, n=2, logprobs=1, **fields)
    assert all(re.fullmatch(pattern, choice["text"]) for choice in choices), choices
    assert {choice["finish_reason"] for choice in choices} == {"stop"}


def test_response_format_makes_the_completion_begin_a_json_object(playground: Playground) -> None:
    """The object may have any form, so the length limit may cut it off."""
    body = {"max_tokens": 40, "seed": 1, "response_format": {"type": "json_object"}}
    (choice,) = playground.choices(PROMPT, **body)
    assert choice["text"].startswith("{")


@pytest.mark.parametrize(
    ("fields", "status", "param", "said"),
    [
        ({"guided_regex": "[a-z"}, 400, "guided_regex", "unclosed character class"),
        ({"must_match": "regex", "must_match_text": "("}, 400, "must_match", "unclosed group"),
        ({"guided_json": {"not": {}}}, 400, "guided_json", "Unimplemented keys"),
        ({"guided_json": [1]}, 400, "guided_json", "guided_json"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, 400, "guided_regex", "leave all but one"),
        ({"guided_regex": "a", "must_match": "json"}, 400, "guided_regex", "leave all but one"),
        ({"must_match": "regex"}, 422, "must_match", "is empty"),
        ({"response_format": {"type": "xml"}}, 400, "response_format", "json_object"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, 400, "structured_outputs", "one of"),
        ({"guided_regex": "x" * 50_001}, 400, "guided_regex", "at most 50,000 characters"),
        ({"guided_regex": "a", "allowed_token_ids": [5]}, 422, None, "leave no token here"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_unusable_constraints_are_reported_at_their_field(
    playground: Playground,
    fields: dict[str, Any],
    status: int,
    param: str | None,
    said: str,
    stream: bool,
) -> None:
    answer = playground.complete(PROMPT, max_tokens=4, stream=stream, **fields)
    if param is None and stream:  # the answer had begun
        assert said in answer.text
        return
    error = answer.json()["error"]
    assert answer.status_code == status
    assert error["param"] == param
    assert said in error["message"]


def test_log_probabilities_of_prompts_count_towards_the_limit_of_an_answer(
    playground: Playground,
) -> None:
    prompts = ["word " * 500] * 128
    asked = {"max_tokens": 1, "n": 8, "prompt_logprobs": 20}
    answer = playground.complete(prompts, **asked)
    assert answer.status_code == 400
    assert "log-probabilities, and an answer has 4,000,000 at most" in answer.text
    answer = playground.complete(prompts, max_tokens=1, n=8, logprobs=20, echo=True)
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("stop", [5], "it was [5]."), ("stop_token_ids", ["x"], 'it was ["x"].')],
)
def test_a_refusal_shows_the_value_that_was_sent(
    playground: Playground, field: str, value: Any, said: str
) -> None:
    answer = playground.complete("a", **{field: value})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
