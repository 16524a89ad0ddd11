"""Pipeline Cloud's API for hosted GPT-J, so that code written for it runs unchanged.

The parameters are those of transformers' `generate` with that service's defaults: sampling is on,
exactly `response_length` tokens are generated, and the answer does not contain the prompt.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.choices import Shape
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

DEFAULT_MAX_LENGTH = 20  # transformers' default; it includes the prompt
NAMES = {"num_return_sequences": "n", "penalty": "repetition_penalty"}
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
        await self._api.check_prompts([prompt])
        params, include = read_run(body.data, await self._api.count_tokens(prompt))
        async with AsyncExitStack() as resources:
            completions = Completions(
                self._api.worker, [prompt], params, Shape(echo=include), caller
            )
            await self._api.begin(resources, caller, completions, request)
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
    values = {NAMES.get(name, name): v for name, v in given.items() if name not in OWN}
    values = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, **values}
    if not _flag(given, "do_sample", True):
        values["temperature"] = 0.0
    values["max_new_tokens"], values["min_new_tokens"] = _lengths(given, count_prompt)
    if "eos_token_id" in given:
        ids = given["eos_token_id"]
        values["stop_token_ids"] = ids if isinstance(ids, list) else [ids]
    include = _flag(given, "include_input", False)
    if "remove_input" in given:
        include = not _flag(given, "remove_input", False)
    return params_of(values), include


def _check_fixed(given: Mapping[str, Any]) -> None:
    """Parameters with only one allowed value."""
    if given.get("num_beams", 1) != 1:
        raise _refuse(
            "num_beams",
            "num_beams must be 1: there is no beam search here. best_of "
            "gives the likeliest of several samples.",
        )


def _flag(given: Mapping[str, Any], name: str, default: bool) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise _refuse(name, f"{name} must be true or false.")
    return value


def _integer(given: Mapping[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _refuse(name, f"{name} must be a whole number from 0.")
    return value


def _lengths(given: Mapping[str, Any], count_prompt: int) -> tuple[int, int]:
    """The largest and the smallest number of tokens to generate."""
    response = _integer(given, "response_length")
    if response is not None:
        return response, 0 if "eos_token_id" in given else response
    most = _integer(given, "max_new_tokens")
    if most is None:
        longest = _integer(given, "max_length")
        most = (DEFAULT_MAX_LENGTH if longest is None else longest) - count_prompt
        if most < 1:
            raise _refuse(
                "max_length",
                f"The prompt has {count_prompt:,} tokens, which leaves none of max_length to "
                "write; give response_length, which counts new tokens alone.",
            )
    fewest = _integer(given, "min_new_tokens")
    if fewest is None:
        fewest = max(0, (_integer(given, "min_length") or 0) - count_prompt)
    return most, fewest


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
