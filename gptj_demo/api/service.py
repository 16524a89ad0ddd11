"""The API's routes, and what they share: keys, limits, errors, request ids, counts."""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gptj_demo.api import docs, pipeline_cloud
from gptj_demo.api.access import Access
from gptj_demo.api.completions import Completions
from gptj_demo.api.errors import ApiError, of_refusal
from gptj_demo.api.metrics import CONTENT_TYPE, Metrics
from gptj_demo.api.schema import (
    CompletionRequest,
    CompletionResponse,
    DetokenizeRequest,
    DetokenizeResponse,
    ErrorResponse,
    Model,
    ModelList,
    RunRequest,
    RunResponse,
    StreamOptions,
    TokenizeRequest,
    TokenizeResponse,
    components,
    read_body,
    read_params,
)
from gptj_demo.api.streaming import CallerLeft, EventStream, events, unless_caller_leaves
from gptj_demo.client import RequestRefused, Worker
from gptj_demo.protocol import ModelInfo
from gptj_demo.settings import Settings
from gptj_demo.software import software_version

TITLE = "GPT-J Playground API"
DESCRIPTION = (
    "OpenAI's completions, over GPT-J, a base model: it goes on with a text and follows no "
    "instructions.\nWhere keys are set, send one as Authorization: Bearer KEY. Errors come in "
    "OpenAI's shape. Every answer has an X-Request-Id, your own where you send one."
)
CALLER_LEFT = 499  # what proxies log then; nobody receives it
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "A parameter is wrong; param names it."},
    401: {"model": ErrorResponse, "description": "A key is missing or wrong."},
    404: {"model": ErrorResponse, "description": "There is no such model."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    422: {"model": ErrorResponse, "description": "Parameters contradict each other."},
    429: {"model": ErrorResponse, "description": "The queue is full, or a limit is reached."},
    500: {"model": ErrorResponse, "description": "The generation failed."},
    503: {"model": ErrorResponse, "description": "The model is loading or restarting."},
}


def build_service(worker: Worker, settings: Settings) -> FastAPI:
    """The application with the API's routes, on which the page is mounted.

    Raises `InvalidSettings`. From here on the worker's requests are counted.
    """
    access = Access(settings)
    metrics = Metrics(worker)
    worker.observer = metrics
    app = FastAPI(title=TITLE, description=DESCRIPTION, docs_url=None, redoc_url=None)
    service = _Service(worker, settings, access, metrics)
    app.include_router(service.router(app))
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(_Front, metrics=metrics, max_body_bytes=settings.max_body_bytes)
    app.add_exception_handler(ApiError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(CallerLeft, _answer_nobody)
    _describe_bodies(app, access.needs_key)
    return app


class _Service:
    """The routes."""

    def __init__(
        self, worker: Worker, settings: Settings, access: Access, metrics: Metrics
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._access = access
        self._metrics = metrics
        self._started = int(time.time())

    def router(self, app: FastAPI) -> APIRouter:
        """All routes of the API."""
        router = APIRouter(responses=_ERRORS)
        post = partial(router.post, response_class=JSONResponse)
        completions = _body_of(CompletionRequest) | {
            "responses": {"200": {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}
        }
        post("/v1/completions", response_model=CompletionResponse, openapi_extra=completions)(
            self.completions
        )
        router.get("/v1/models", response_model=ModelList)(self.models)
        router.get("/v1/models/{model:path}", response_model=Model)(self.model)
        post("/tokenize", response_model=TokenizeResponse, openapi_extra=_body_of(TokenizeRequest))(
            self.tokenize
        )
        post(
            "/detokenize",
            response_model=DetokenizeResponse,
            openapi_extra=_body_of(DetokenizeRequest),
        )(self.detokenize)
        post("/v2/runs", response_model=RunResponse, openapi_extra=_body_of(RunRequest))(
            self.pipeline_run
        )
        plain = APIRouter()
        plain.get("/healthz")(self.healthz)
        plain.get("/readyz", responses={503: {"description": "Not yet, or not now."}})(self.readyz)
        plain.get(
            "/metrics",
            response_class=Response,
            responses={
                200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
                401: _ERRORS[401],
            },
        )(self.metrics)
        plain.get("/docs", include_in_schema=False)(lambda: HTMLResponse(docs.page(app.openapi())))
        every = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        for path in ("/v1/{path:path}", "/v2/{path:path}", *_POST_ONLY, *_GET_ONLY):
            plain.api_route(path, methods=every, include_in_schema=False)(_no_such_route)
        router.include_router(plain)
        return router

    # ---- completions

    async def completions(self, request: Request) -> Response:
        """Continue texts. OpenAI's parameters under OpenAI's names, and the playground's own."""
        caller = self._access.identify(request)
        body: Any = await read_body(request, CompletionRequest)
        params = read_params(body)
        if body.stream_options is not None and not body.stream:
            raise ApiError(
                400,
                "stream_options is for streams: set stream to true.",
                code="invalid_value",
                param="stream_options",
            )
        model = self._ready_model(body.model)
        prompts = _prompts_of(body.prompt)
        await self._check_prompts(prompts)
        async with AsyncExitStack() as resources:
            completions = await self._begin(
                resources,
                caller,
                Completions(self._worker, prompts, params, echo=bool(body.echo), visitor=caller),
                request,
            )
            same = {
                "id": completions.id,
                "object": "text_completion",
                "created": completions.created,
                "model": model.name,
                "system_fingerprint": self.fingerprint(model),
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

    async def _begin(
        self, resources: AsyncExitStack, caller: str, completions: Completions, request: Request
    ) -> Completions:
        """Admit a request and put it in line; leaving `resources` ends it and counts its tokens."""
        resources.enter_context(self._access.admit(caller))

        async def end() -> None:
            await completions.aclose()
            usage = completions.usage
            self._access.charge(caller, usage.prompt_tokens + usage.completion_tokens)

        resources.push_async_callback(end)
        await unless_caller_leaves(request, completions.begin())
        return completions

    async def _check_prompts(self, prompts: list[str | tuple[int, ...]]) -> None:
        most = self._settings.max_prompt_tokens
        if most is None:
            return
        for prompt in prompts:
            count = await self._count(prompt) if isinstance(prompt, str) else len(prompt)
            if count > most:
                raise ApiError(
                    400,
                    f"A prompt has {count:,} tokens; this playground's API reads {most:,} at most.",
                    code="context_length_exceeded",
                    param="prompt",
                )

    async def _count(self, text: str) -> int:
        try:
            return await self._worker.count_tokens(text) or 0
        except RequestRefused as refusal:
            raise of_refusal(refusal) from None

    async def pipeline_run(self, request: Request) -> Response:
        """For code written against Pipeline Cloud's GPT-J: its request, and an answer like its."""
        caller = self._access.identify(request)
        body = await read_body(request, RunRequest)
        self._ready_model(None)
        prompt = body.data[0]
        if not isinstance(prompt, str):
            raise ApiError(
                400,
                "The first item of data must be the prompt, a text.",
                code="invalid_value",
                param="data.0",
            )
        created = time.time()
        await self._check_prompts([prompt])
        params, include = pipeline_cloud.read_run(body.data, await self._count(prompt))
        async with AsyncExitStack() as resources:
            completions = await self._begin(
                resources,
                caller,
                Completions(self._worker, [prompt], params, echo=include, visitor=caller),
                request,
            )
            choices = await unless_caller_leaves(request, completions.whole())
            texts = [choice["text"] for choice in choices]
            return JSONResponse(pipeline_cloud.answer(texts, created, time.time()))

    # ---- the model

    def fingerprint(self, model: ModelInfo) -> str:
        """A short name of all that the words of a seed depend on."""
        parts = (
            model.name,
            model.revision,
            model.precision,
            model.device_name,
            model.forward_path,
            software_version(),
        )
        return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

    def _ready_model(self, asked: str | None) -> ModelInfo:
        """The model, by its name or by that of the setting.

        Raises `ApiError` 404 where another is asked for, 503 where it is not ready.
        """
        model = self._worker.model
        names = (None, model.name if model else None, self._settings.model)
        if model is not None and asked not in names:
            raise ApiError(
                404,
                f"There is no model named {asked[:200]!r} here; the one that answers is "
                f"{model.name!r}.",
                code="model_not_found",
                param="model",
            )
        if model is None or self._worker.status.state != "ready":
            raise ApiError(503, str(self._worker.status.detail), code="model_unavailable")
        return model

    def _describe(self, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._started,
            "owned_by": "gptj-playground" if model.is_sample else "EleutherAI",
        }

    async def models(self, request: Request) -> Response:
        """The model that answers; none before it is loaded for the first time."""
        self._access.identify(request)
        model = self._worker.model
        data = [] if model is None else [self._describe(model)]
        return JSONResponse({"object": "list", "data": data})

    async def model(self, request: Request, model: str) -> Response:
        """One model."""
        self._access.identify(request)
        return JSONResponse(self._describe(self._ready_model(model)))

    # ---- tokens

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a text."""
        self._access.identify(request)
        body = await read_body(request, TokenizeRequest)
        self._ready_model(body.model)
        try:
            tokens = await self._worker.tokenize(body.prompt)
        except RequestRefused as refusal:
            raise of_refusal(refusal) from None
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": self._worker.context_length,
                "tokens": [token.token_id for token in tokens],
                "token_strs": [token.text for token in tokens],
                "byte_offsets": [token.start for token in tokens],
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens; what is no whole character becomes the replacement character."""
        self._access.identify(request)
        body = await read_body(request, DetokenizeRequest)
        self._ready_model(body.model)
        vocabulary = self._worker.vocabulary
        assert vocabulary is not None
        wrong = next((i for i in body.tokens if i >= vocabulary.size), None)
        if wrong is not None:
            raise ApiError(
                400,
                f"Token id {wrong} is not in the vocabulary; ids are 0 to {vocabulary.size - 1}.",
                code="invalid_value",
                param="tokens",
            )
        data = b"".join(map(vocabulary.bytes_of, body.tokens))
        return JSONResponse({"prompt": data.decode(errors="replace")})

    # ---- health

    async def healthz(self) -> Response:
        """Whether the site is up."""
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether the model answers."""
        status = self._worker.status
        ready = status.state == "ready"
        body = {"status": status.state, "detail": str(status.detail), "progress": status.progress}
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Counts and times, as Prometheus reads them."""
        self._access.identify(request)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


_POST_ONLY = ("/tokenize", "/detokenize")
_GET_ONLY = ("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")
_METHODS = {
    "/v1/completions": "POST",
    "/v1/models": "GET",
    "/v2/runs": "POST",
    **dict.fromkeys(_POST_ONLY, "POST"),
    **dict.fromkeys(_GET_ONLY, "GET"),
}


def is_api(path: str) -> bool:
    """Whether a path is the API's and not the page's."""
    return path in _METHODS or path.startswith(("/v1/", "/v2/"))


async def _no_such_route(request: Request) -> Response:
    path = request.url.path
    allowed = "GET" if path.startswith("/v1/models/") else _METHODS.get(path)
    if allowed is None:
        raise ApiError(404, f"There is nothing at {path[:200]!r}; see /docs.", code="not_found")
    raise ApiError(
        405,
        f"{path[:200]} takes {allowed}, not {request.method}.",
        code="method_not_allowed",
        headers={"Allow": allowed},
    )


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


class _Front:
    """In front of the API's routes: request ids, the count of answers, the size of bodies."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                path = scope["path"] if scope["path"] in _METHODS else "other"
                self._metrics.responses.labels(path, str(message["status"])).inc()
            await send(message)

        too_large = ApiError(
            413,
            f"The body is larger than the {self._max_body_bytes:,} bytes that are read here.",
            code="body_too_large",
        )
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._max_body_bytes:
            await too_large.response()(scope, receive, answer)
            return
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._max_body_bytes:
                raise too_large
            return message

        await self._app(scope, measured, answer)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return ApiError(error.status_code, str(error.detail), code="http_error").response()


async def _answer_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=CALLER_LEFT)


def _body_of(model: type[BaseModel]) -> dict[str, Any]:
    """How a route's body is described."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _describe_bodies(app: FastAPI, needs_key: bool) -> None:
    """Add to the OpenAPI description what the routes read by themselves."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = describe()
            schema["components"]["schemas"] |= components()
            if needs_key:
                bearer = {"key": {"type": "http", "scheme": "bearer"}}
                schema["components"]["securitySchemes"] = bearer
                schema["security"] = [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
