"""Bodies of many values: few errors are made of them, and the first wrong value is named."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gptj_demo.api.bodies import THREAD_FROM, aside
from gptj_demo.api.description import BODIES
from gptj_demo.api.errors import ApiError
from gptj_demo.api.matching import read_match
from gptj_demo.api.mcp_tools import AlternativesRequest, CompareRequest
from gptj_demo.api.schema import (
    CompletionRequest,
    DetokenizeRequest,
    ScoreRequest,
    parse_values,
)
from gptj_demo.control_values import InvalidControl, make_params
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.texts import json_start, quoted

MANY = 5000
MOST_ERRORS = 8
"""Errors for one field: one of each type that it may have."""
VALUES: tuple[Any, ...] = (
    [-1] * MANY,
    ["a"] * MANY,
    [""] * MANY,
    [None] * MANY,
    [[]] * MANY,
    [{}] * MANY,
    [[-1]] * MANY,
    [[-1] * MANY],
    [["a"] * MANY],
    {str(number): "a" for number in range(MANY)},
    {"1": ["a"] * MANY},
)


def count_errors(model: type[BaseModel], values: dict[str, Any]) -> int:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return error.error_count()
    return 0


@pytest.mark.parametrize("model", [*BODIES, AlternativesRequest, CompareRequest])
def test_no_field_of_a_body_makes_an_error_of_each_value(model: type[BaseModel]) -> None:
    others = count_errors(model, {})
    for name in model.model_fields:
        for value in VALUES:
            errors = count_errors(model, {name: value})
            assert errors <= others + MOST_ERRORS, (name, json_start(value, 20))


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_no_control_makes_an_error_of_each_value(control: Any) -> None:
    for value in VALUES:
        if len(value) > 1:  # a longer list than any control has
            assert count_errors(SamplingParams, {control.name: value}) <= 1
    if control.is_list:
        with pytest.raises(InvalidControl) as wrong:
            make_params({control.name: ["a"] * MANY})
        assert wrong.value.name == control.name


def test_one_error_is_made_of_all_unknown_fields() -> None:
    unknown = {f"unknown {number}": 1 for number in range(MANY)}
    options = {"stream_options": unknown}
    assert count_errors(CompletionRequest, {"prompt": "a", **unknown}) == 1
    assert count_errors(CompletionRequest, {"prompt": "a", **options}) == 1
    with pytest.raises(ApiError, match="no parameter named 'unknown 0'"):
        parse_values({"prompt": "a", **unknown}, CompletionRequest)
    with pytest.raises(ApiError, match=r"no parameter named 'stream_options\.unknown 0'"):
        parse_values({"prompt": "a", **options}, CompletionRequest)
    with pytest.raises(InvalidControl, match="unknown 0"):
        make_params(unknown)


GOOD_THEN_BAD = [1] * MANY + [-1] * MANY


@pytest.mark.parametrize(
    ("model", "body", "sentence"),
    [
        (ScoreRequest, {"prompt": "a", "continuations": ["a", GOOD_THEN_BAD]},
         f"continuations.1.{MANY} must be a whole number from 0; it was -1."),
        (ScoreRequest, {"prompt": GOOD_THEN_BAD, "continuations": ["a"]},
         f"prompt.{MANY} must be a whole number from 0; it was -1."),
        (ScoreRequest, {"prompt": "a", "continuations": [[1] * 200_001]},
         "continuations.0 must be a text or a list of up to 200,000 whole numbers from 0; it was a "
         "list of 200,001."),
        (DetokenizeRequest, {"tokens": GOOD_THEN_BAD},
         f"tokens.{MANY} must be a whole number from 0; it was -1."),
        (CompletionRequest, {"prompt": ["a"] * MANY},
         "prompt has more than 128 prompts; send them in several requests."),
        (CompletionRequest, {"prompt": [[1]] * MANY},
         "prompt has more than 128 prompts; send them in several requests."),
        (CompletionRequest, {"prompt": [1] * 200_001},
         "prompt has more than 200,000 token ids, which is the limit; shorten it."),
        (CompletionRequest, {"prompt": GOOD_THEN_BAD},
         "prompt must be a text, a list of texts, a list of token ids, or a list of such lists; "
         "token ids are whole numbers from 0."),
        (CompletionRequest, {"prompt": "a", "stop": [1] * MANY},
         "Stop at (stop): at most 32 values are allowed, not 5,000."),
        (CompletionRequest, {"prompt": "a", "logit_bias": VALUES[-2]},
         "Logit bias (logit_bias): at most 1,024 values are allowed, not 5,000."),
    ],
)  # fmt: skip
def test_the_first_wrong_value_is_named(
    model: type[BaseModel], body: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ApiError) as wrong:
        parse_values(body, model)
    assert wrong.value.message == sentence


def test_large_work_is_done_in_a_thread() -> None:
    async def check() -> None:
        here = threading.get_ident()
        assert await aside(THREAD_FROM - 1, threading.get_ident) == here
        assert await aside(THREAD_FROM, threading.get_ident) != here

    asyncio.run(check())


class Endless(dict[str, int]):
    """An object whose entries never end."""

    def __bool__(self) -> bool:
        return True

    def items(self) -> Any:
        number = 0
        while True:
            yield str(number), number
            number += 1


def test_only_the_beginning_of_a_large_value_is_written() -> None:
    assert json_start(Endless(), 18) == '{"0": 0, "1": 1, "'
    assert quoted(Endless()) == '{"0": 0, "1": 1, "2": 2, "3": 3, "4": 4…'
    for value in VALUES:
        assert json_start(value, 10**6) == json.dumps(value)


def test_a_schema_that_is_too_long_to_match_is_not_written_to_its_end() -> None:
    body: Any = CompletionRequest.model_construct(guided_json=Endless())
    assert len(read_match(body)["must_match_text"]) == 50_001
