"""OpenAI's protocol: completions, whole or as a stream, and the list of models."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.answer_memory import MAX_LOGPROBS, size_of
from gptj_demo.api.answers import json_answer
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError
from gptj_demo.api.matching import named_as_given
from gptj_demo.api.responses import CompletionResponse, Model, ModelList
from gptj_demo.api.schema import (
    CompletionRequest,
    StreamOptions,
    read_body,
    read_params,
    shape_of,
)
from gptj_demo.api.streaming import EventStream, events, unless_caller_leaves
from gptj_demo.protocol import ModelInfo, Visitor
from gptj_demo.software import software_version


class OpenAI:
    """`/v1/completions` and `/v1/models`."""

    def __init__(self, api: Context) -> None:
        self._api = api
        self._started = int(time.time())

    def add_to(self, router: APIRouter) -> None:
        streams = {"200": {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
        described = body_of(CompletionRequest) | {"responses": streams}
        router.post(
            "/v1/completions",
            response_class=JSONResponse,
            response_model=CompletionResponse,
            openapi_extra=described,
        )(self.completions)
        router.post("/v1/engines/{engine:path}/completions", include_in_schema=False)(
            self.engine_completions
        )
        router.get("/v1/models", response_model=ModelList)(self.models)
        router.get("/v1/models/{model:path}", response_model=Model)(self.model)

    async def engine_completions(self, request: Request, engine: str) -> Response:
        """OpenAI's older address of the same, which names the model."""
        self._api.access.identify(request)
        self._api.ready_model(engine)
        return await self.completions(request)

    async def completions(self, request: Request) -> Response:
        """Continue texts. OpenAI's parameters under OpenAI's names, and the playground's own."""
        caller = self._api.access.identify(request)
        body: Any = await read_body(request, CompletionRequest)
        with named_as_given(body):
            return await self._answer(request, caller, body)

    async def _answer(self, request: Request, caller: Visitor, body: Any) -> Response:
        if body.stream_options is not None and not body.stream:
            raise ApiError(
                400,
                "stream_options is for streams: set stream to true.",
                code="invalid_value",
                param="stream_options",
            )
        async with AsyncExitStack() as resources:
            admitted = resources.enter_context(self._api.access.admit(caller))
            completions = await completions_for(self._api, body, caller)
            await self._api.begin(resources, admitted, completions, request)
            model = self._api.worker.model
            assert model is not None
            same = {
                "id": completions.id,
                "object": "text_completion",
                "created": completions.created,
                "model": self._api.id_of(model),
                "system_fingerprint": fingerprint(model),
            }

            def envelope(**fields: Any) -> dict[str, Any]:
                return {**same, **fields}

            if body.stream:
                options = body.stream_options or StreamOptions.model_construct()
                stream = events(
                    completions,
                    envelope,
                    include_usage=options.include_usage,
                    continuous_usage=options.continuous_usage_stats,
                    timings=bool(body.timings),
                )
                return EventStream(stream, resources.pop_all())
            choices = await unless_caller_leaves(request, completions.whole())
            times = {"timings": completions.timings} if body.timings else {}
            usage = completions.usage.json()
            return await json_answer(envelope(choices=choices, usage=usage, **times), resources)

    def _describe(self, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": self._api.id_of(model),
            "object": "model",
            "created": self._started,
            "owned_by": "gptj-playground" if model.is_sample else model.maker,
            "adapters": model.adapters,
            "max_model_len": model.context_length,
        }

    async def models(self, request: Request) -> Response:
        """The loaded model; the list is empty before it is loaded for the first time."""
        self._api.access.identify(request)
        model = self._api.worker.model
        data = [] if model is None else [self._describe(model)]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, request: Request, model: str) -> Response:
        """One model."""
        self._api.access.identify(request)
        return JSONResponse(self._describe(self._api.ready_model(model)))


async def completions_for(
    api: Context, body: Any, caller: Visitor, max_logprobs: int = MAX_LOGPROBS
) -> Completions:
    """The completions that a checked body asks for, not queued yet; raises `ApiError`."""
    params = read_params(body)
    api.ready_model(body.model)
    prompts = _prompts_of(body.prompt)
    most = _most_read(body, params.max_new_tokens)
    if most is not None:
        prompts = await _ends_of(api, prompts, most)
    shape, size = shape_of(body), 0
    if params.logprobs is not None:
        tokens = len(prompts) * params.candidates * params.max_new_tokens
        if params.echo:
            read = [await api.count_tokens(p) if isinstance(p, str) else len(p) for p in prompts]
            tokens += params.n * sum(read)
        size = size_of(tokens, params.logprobs, shape, max_logprobs)
    await api.check_prompts(prompts)
    return Completions(api.worker, prompts, params, shape, caller, logprobs_bytes=size)


def _most_read(body: Any, max_new_tokens: int) -> int | None:
    """How many tokens of each prompt the body lets be read; None without such a limit."""
    limits = [] if body.truncate_prompt_tokens is None else [body.truncate_prompt_tokens]
    if body.truncation_length is not None:
        left = body.truncation_length - max_new_tokens
        if left < 1:
            raise ApiError(
                422,
                f"truncation_length is {body.truncation_length:,}, which leaves none of the "
                f"prompt beside {max_new_tokens:,} new tokens (max_tokens). Change one of them.",
                code="contradictory_values",
                param="truncation_length",
            )
        limits.append(left)
    return min(limits, default=None)


async def _ends_of(
    api: Context, prompts: list[str | tuple[int, ...]], count: int
) -> list[str | tuple[int, ...]]:
    """The last tokens of each prompt, `count` at most."""
    ends: list[str | tuple[int, ...]] = []
    for prompt in prompts:
        if isinstance(prompt, str):
            ids = await api.token_ids(prompt)
            ends.append(prompt if len(ids) <= count else ids[-count:])
        else:
            ends.append(prompt[-count:])
    return ends


def _prompts_of(prompt: Any) -> list[str | tuple[int, ...]]:
    """The prompts of a request: one or several, each a text or token ids."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise ApiError(
            400, "prompt is an empty list; send a text.", code="invalid_value", param="prompt"
        )
    if isinstance(prompt[0], int):
        return [tuple(prompt)]
    return [one if isinstance(one, str) else tuple(one) for one in prompt]


def fingerprint(model: ModelInfo) -> str:
    """A short hash of everything that determines the text for a seed."""
    parts = (
        model.name,
        model.revision,
        *model.adapters,
        model.precision,
        model.device_name,
        model.forward_path,
        software_version(),
    )
    return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
