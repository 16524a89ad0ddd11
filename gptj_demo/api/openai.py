"""OpenAI's protocol: completions, whole or as a stream, and the list of models."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError
from gptj_demo.api.schema import (
    CompletionRequest,
    CompletionResponse,
    Model,
    ModelList,
    StreamOptions,
    read_body,
    read_params,
)
from gptj_demo.api.streaming import EventStream, events, unless_caller_leaves
from gptj_demo.protocol import ModelInfo
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
        router.get("/v1/models", response_model=ModelList)(self.models)
        router.get("/v1/models/{model:path}", response_model=Model)(self.model)

    async def completions(self, request: Request) -> Response:
        """Continue texts. OpenAI's parameters under OpenAI's names, and the playground's own."""
        caller = self._api.access.identify(request)
        body: Any = await read_body(request, CompletionRequest)
        params = read_params(body)
        if body.stream_options is not None and not body.stream:
            raise ApiError(
                400,
                "stream_options is for streams: set stream to true.",
                code="invalid_value",
                param="stream_options",
            )
        model = self._api.ready_model(body.model)
        prompts = _prompts_of(body.prompt)
        await self._api.check_prompts(prompts)
        async with AsyncExitStack() as resources:
            completions = Completions(
                self._api.worker, prompts, params, echo=bool(body.echo), visitor=caller
            )
            await self._api.begin(resources, caller, completions, request)
            same = {
                "id": completions.id,
                "object": "text_completion",
                "created": completions.created,
                "model": model.name,
                "system_fingerprint": fingerprint(model),
            }

            def envelope(**fields: Any) -> dict[str, Any]:
                return {**same, **fields}

            if body.stream:
                options = body.stream_options or StreamOptions.model_construct()
                told = events(
                    completions, envelope, options.include_usage, options.continuous_usage_stats
                )
                return EventStream(told, resources.pop_all())
            choices = await unless_caller_leaves(request, completions.whole())
            return JSONResponse(envelope(choices=choices, usage=completions.usage.json()))

    def _describe(self, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._started,
            "owned_by": "gptj-playground" if model.is_sample else model.maker,
            "adapters": model.adapters,
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
