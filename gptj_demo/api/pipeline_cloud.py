"""Pipeline Cloud's API for hosted GPT-J, so that code written for it runs unchanged.

The parameters are those of transformers' `generate` with that service's defaults: sampling is on,
exactly `response_length` tokens are generated, and the answer does not contain the prompt.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.choices import Shape
from gptj_demo.api.compatibility import name_as_given
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError
from gptj_demo.api.responses import RunResponse
from gptj_demo.api.schema import (
    RunRequest,
    params_of,
    read_body,
)
from gptj_demo.api.streaming import unless_caller_leaves
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.texts import quoted

DEFAULT_MAX_LENGTH = 20  # transformers' default; it includes the prompt
NAMES = {
    "num_return_sequences": "n",
    "penalty": "repetition_penalty",
    "eos_token_id": "stop_token_ids",
}
LONGEST = ("response_length", "max_new_tokens", "max_length")
SHORTEST = ("min_new_tokens", "min_length")
OWN = {
    "response_length",
    "remove_input",
    "include_input",
    "max_length",
    "min_length",
    "max_new_tokens",
    "min_new_tokens",
    "do_sample",
    "eos_token_id",
    "pad_token_id",
    "num_beams",
    "early_stopping",
    "use_cache",
}


class PipelineCloud:
    """`/v2/runs`."""

    def __init__(self, api: Context) -> None:
        self._api = api

    def add_to(self, router: APIRouter) -> None:
        router.post(
            "/v2/runs",
            response_class=JSONResponse,
            response_model=RunResponse,
            openapi_extra=body_of(RunRequest),
        )(self.pipeline_run)

    async def pipeline_run(self, request: Request) -> Response:
        """Answer a request in Pipeline Cloud's format."""
        caller = self._api.access.identify(request)
        body = await read_body(request, RunRequest)
        self._api.ready_model(None)
        prompt = body.data[0]
        if not isinstance(prompt, str):
            raise _invalid("data.0", "The first item of data must be the prompt, a text.")
        created = time.time()
        async with AsyncExitStack() as resources:
            admitted = resources.enter_context(self._api.access.admit(caller))
            await self._api.check_prompts([prompt])
            params, include = read_run(body.data, await self._api.count_tokens(prompt))
            completions = Completions(
                self._api.worker, [prompt], params, Shape(echo=include), caller
            )
            await self._api.begin(resources, admitted, completions, request)
            choices = await unless_caller_leaves(request, completions.whole())
            texts = [choice["text"] for choice in choices]
            return JSONResponse(answer(texts, created, time.time()))


def _invalid(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="invalid_value", param=param[:100])


def _refuse(name: str, message: str) -> ApiError:
    return _invalid(f"data.1.{name}", message)


def read_run(data: list[Any], count_prompt: int) -> tuple[SamplingParams, bool]:
    """The controls, and whether the prompt is part of the answer; raises `ApiError`.

    `count_prompt` is the number of the prompt's tokens, which `max_length` counts too.
    """
    given = data[1] if len(data) > 1 else {}
    if not isinstance(given, Mapping):
        raise _invalid("data.1", "The second item of data must be an object of parameters.")
    given = {name: value for name, value in given.items() if value is not None}
    controls = {control.name for control in CONTROLS} - {"echo", "logprobs"}
    unknown = next((name for name in given if name not in OWN | NAMES.keys() | controls), None)
    if unknown is not None:
        raise _refuse(unknown, f"There is no parameter named {unknown[:60]!r} here.")
    _check_fixed(given)
    values, names = _controls(given)
    values = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, **values}
    if not _flag(given, "do_sample", True):
        values["temperature"] = 0.0
    values["max_new_tokens"], values["min_new_tokens"] = _lengths(given, count_prompt)
    names |= {
        "max_tokens": _first_of(given, LONGEST),
        "min_new_tokens": _first_of(given, SHORTEST),
    }
    include = _includes_input(given)
    try:
        return params_of(values), include
    except ApiError as error:
        name_as_given(error, names)
        error.param = f"data.1.{error.param}"
        raise


def _controls(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The controls that are given under one of their names, and these names by ours."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for name, value in given.items():
        ours = NAMES.get(name, name)
        if name in OWN - NAMES.keys():
            continue
        if name == "eos_token_id" and not isinstance(value, list):
            value = [value]
        if ours in values and values[ours] != value:
            raise _differ(names[ours], name)
        values[ours], names[ours] = value, name
    return values, names


def _differ(one: str, other: str) -> ApiError:
    return _refuse(
        other, f"{one} and {other} are one parameter and say different things: leave one out."
    )


def _first_of(given: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((name for name in names if name in given), names[0])


def _includes_input(given: Mapping[str, Any]) -> bool:
    """Whether the prompt is part of the answer."""
    include = _flag(given, "include_input", False)
    if "remove_input" not in given:
        return include
    remove = _flag(given, "remove_input", False)
    if "include_input" in given and include == remove:
        raise _refuse(
            "remove_input",
            f"include_input and remove_input contradict each other: both are {quoted(include)}. "
            "Leave one out.",
        )
    return not remove


def _check_fixed(given: Mapping[str, Any]) -> None:
    """Check the parameters that have no effect; raises `ApiError`."""
    if given.get("num_beams", 1) != 1:
        raise _refuse(
            "num_beams",
            "num_beams must be 1: there is no beam search here. best_of "
            "gives the likeliest of several samples.",
        )
    _flag(given, "use_cache", True)
    if given.get("early_stopping") != "never":
        _flag(given, "early_stopping", False)
    _integer(given, "pad_token_id")


def _flag(given: Mapping[str, Any], name: str, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise _refuse(name, f"{name} must be true or false; it was {quoted(value)}.")
    return value


def _integer(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _refuse(name, f"{name} must be a whole number from 0; it was {quoted(value)}.")
    return value


def _lengths(given: Mapping[str, Any], count_prompt: int) -> tuple[int, int]:
    """The largest and the smallest number of tokens to generate."""
    most = _agreed(given, LONGEST, count_prompt)
    if most is None:
        most = DEFAULT_MAX_LENGTH - count_prompt
    if most < 1 and "response_length" not in given and "max_new_tokens" not in given:
        raise _refuse(
            "max_length",
            f"The prompt has {count_prompt:,} tokens, which leaves none of max_length to "
            "write; give response_length, which counts new tokens alone.",
        )
    fewest = _agreed(given, SHORTEST, count_prompt)
    if fewest is None:
        is_exact = "response_length" in given and "eos_token_id" not in given
        fewest = most if is_exact else 0
    return most, max(0, fewest)


def _agreed(given: Mapping[str, Any], names: Sequence[str], count_prompt: int) -> int | None:
    """The number of new tokens that these parameters give; None if there is none of them.

    The last one counts the prompt's tokens too.
    """
    counts = {name: _integer(given, name) for name in names if name in given}
    found: int | None = None
    for name, value in counts.items():
        assert value is not None
        new = value - count_prompt if name == names[-1] else value
        if found is not None and new != found:
            raise _differ(next(iter(counts)), name)
        found = new
    return found


def answer(texts: list[str], created: float, ended: float) -> dict[str, Any]:
    """A finished run; the times are seconds since 1970."""
    began = datetime.fromtimestamp(created, timezone.utc).isoformat()
    return {
        "id": f"run_{uuid.uuid4().hex}",
        "created_at": began,
        "started_at": began,
        "ended_at": datetime.fromtimestamp(ended, timezone.utc).isoformat(),
        "run_state": "completed",
        "compute_time_ms": round(1000 * (ended - created)),
        "result": None,
        "result_preview": [texts],
    }
