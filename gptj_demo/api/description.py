"""The OpenAPI description of the API."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from gptj_demo.api.access import Access
from gptj_demo.api.responses import ErrorResponse
from gptj_demo.api.schema import (
    CompletionRequest,
    DetokenizeRequest,
    LikelyRequest,
    RunRequest,
    ScoreRequest,
    TokenCountRequest,
    TokenizeRequest,
)

BODIES: tuple[type[BaseModel], ...] = (
    CompletionRequest,
    ScoreRequest,
    LikelyRequest,
    TokenizeRequest,
    TokenCountRequest,
    DetokenizeRequest,
    RunRequest,
)
"""The bodies of all routes."""

TITLE = "GPT-J Playground API"
DESCRIPTION = (
    "OpenAI's completions, over GPT-J, a base model: it goes on with a text and follows no "
    "instructions.\nWhere keys are set, send one as Authorization: Bearer KEY. Errors come in "
    "OpenAI's shape. Every answer but a 403 has an X-Request-Id, your own where you send one."
)
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "A parameter is wrong; param names it."},
    401: {"model": ErrorResponse, "description": "A key is missing or wrong."},
    403: {"model": ErrorResponse, "description": "The host name or the origin is not accepted."},
    404: {"model": ErrorResponse, "description": "There is no such model."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    415: {"model": ErrorResponse, "description": "The body is compressed."},
    422: {"model": ErrorResponse, "description": "Parameters contradict each other."},
    429: {"model": ErrorResponse, "description": "The queue is full, or a limit is reached."},
    500: {"model": ErrorResponse, "description": "The generation failed."},
    503: {"model": ErrorResponse, "description": "The model is loading or restarting."},
}


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI description of a route's body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_api(app: FastAPI, access: Access) -> None:
    """Add to the OpenAPI description the bodies that the routes parse themselves, and the key.

    FastAPI keeps the description; the key is added once callers need one, which can begin while
    the server runs and does not end.
    """
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        schema = describe()
        schema["components"]["schemas"] |= _components()
        if access.needs_key:
            bearer = {"key": {"type": "http", "scheme": "bearer"}}
            schema["components"]["securitySchemes"] = bearer
            schema["security"] = [{"key": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


@cache
def _components() -> dict[str, Any]:
    """The schemas of all bodies."""
    from pydantic.json_schema import models_json_schema

    _, schema = models_json_schema(
        [(model, "validation") for model in BODIES], ref_template="#/components/schemas/{model}"
    )
    definitions: dict[str, Any] = schema["$defs"]
    return definitions
