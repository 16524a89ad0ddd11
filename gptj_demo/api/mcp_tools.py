"""The tools that MCP clients can call: their descriptions, and what they do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field
from starlette.requests import Request

from gptj_demo.api.bodies import Body, ListOf
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.errors import ApiError
from gptj_demo.api.openai import completions_for
from gptj_demo.api.schema import (
    MAX_PROMPTS,
    CompletionRequest,
    ScoreRequest,
    parse_values,
)
from gptj_demo.api.score import scores_for
from gptj_demo.protocol import Visitor
from gptj_demo.sampling import CONTROLS, MAX_ALTERNATIVES
from gptj_demo.texts import message

COMMON = ("prompt", *(one.api_name for one in CONTROLS if one.openai is not None))
"""Parameters of `/v1/completions` that the tool `generate` describes: those of OpenAI. It takes the
others too."""

MOST_LOGPROBS = 50_000
"""Log-probabilities in a result: the package `mcp` writes it three times, on the event loop."""

Begin = Callable[[Completions], Awaitable[None]]
"""Puts the completions of an admitted call in the queue."""
Report = Callable[[float, float], Awaitable[None]]
"""A callback that gets the amount of work done and the total amount."""


class Call(NamedTuple):
    """A call of a tool: its arguments, who calls, and the HTTP request that it came in."""

    arguments: Mapping[str, Any]
    caller: Visitor
    request: Request
    report: Report


class Tool(NamedTuple):
    """A tool: what a client reads about it, and what runs it.

    `run` returns a JSON object; it raises `ApiError` and `RequestRefused`.
    """

    name: str
    title: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[[Call], Awaitable[dict[str, Any]]]


class AlternativesRequest(Body):
    """The text whose most probable next tokens are listed."""

    prompt: str = Field(description="The text.")
    count: Annotated[int, Field(ge=1, le=MAX_ALTERNATIVES)] = Field(
        10, description="How many tokens to list."
    )


class CompareRequest(Body):
    """Several prompts, and one text that follows each of them."""

    prompts: Annotated[ListOf[str], Field(min_length=1, max_length=MAX_PROMPTS)] = Field(
        description="The prompts. An empty one is the beginning of a text."
    )
    continuation: str = Field(
        min_length=1,
        description="What follows each prompt, with the space before its first word.",
    )


def make_tools(api: Context) -> tuple[Tool, ...]:
    """All tools."""
    return (
        Tool(
            "generate",
            "Continue a text",
            "Continue a text with GPT-J. It is a base model: it writes on from the prompt and "
            "follows no instructions, so give it the beginning of what is to be written. Takes "
            "every parameter of /v1/completions, which /docs describes.",
            _fields(CompletionRequest, COMMON) | {"additionalProperties": True},
            partial(_generate, api),
        ),
        Tool(
            "score",
            "Score continuations",
            "How probable each of several continuations of a prompt is for GPT-J: the sum and the "
            "mean of the log-probabilities of its tokens, and whether greedy decoding would write "
            "it.",
            _fields(ScoreRequest, ("prompt", "continuations")),
            partial(_score, api),
        ),
        Tool(
            "alternatives",
            "List the next tokens",
            "The most probable next tokens of a text, most probable first.",
            _fields(AlternativesRequest, ("prompt", "count")),
            partial(_alternatives, api),
        ),
        Tool(
            "compare",
            "Compare prompts",
            "How probable one continuation is after each of several prompts, highest first.",
            _fields(CompareRequest, ("prompts", "continuation")),
            partial(_compare, api),
        ),
    )


def _fields(model: type[BaseModel], names: tuple[str, ...]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments: these fields of a body; a prompt is a text."""
    schema = model.model_json_schema()
    fields = {name: schema["properties"][name] for name in names}
    if "prompt" in fields:
        fields["prompt"] = {"type": "string", "description": fields["prompt"]["description"]}
    required = [name for name in names if name in schema["required"]]
    return {"type": "object", "properties": fields, "required": required}


async def _generate(api: Context, call: Call) -> dict[str, Any]:
    body: Any = await asyncio.to_thread(parse_values, call.arguments, CompletionRequest)
    for name in ("stream", "stream_options", "timings"):
        if getattr(body, name):
            why = f"{name} has no effect in this tool, which returns the whole text: leave it out."
            raise ApiError(400, why, code="invalid_value", param=name)

    async def report() -> None:
        await call.report(completions.usage.completion_tokens, completions.most_tokens)

    async with _admitted(api, call) as begin:
        completions = await completions_for(api, body, call.caller, MOST_LOGPROBS)
        await begin(completions)
        choices = await completions.whole(report)
    return {"choices": choices, "usage": completions.usage.json()}


async def _score(api: Context, call: Call) -> dict[str, Any]:
    body = await asyncio.to_thread(parse_values, call.arguments, ScoreRequest)
    api.ready_model(body.model)
    prompts = [body.prompt] * len(body.continuations)
    scores = await _scores(api, call, prompts, body.continuations, body.logprobs or 0)
    return {"scores": scores}


async def _compare(api: Context, call: Call) -> dict[str, Any]:
    body = await asyncio.to_thread(parse_values, call.arguments, CompareRequest)
    continuations = [body.continuation] * len(body.prompts)
    scores = await _scores(api, call, body.prompts, continuations, 0)
    return {"scores": sorted(scores, key=lambda one: (-one["sum_logprob"], one["index"]))}


async def _alternatives(api: Context, call: Call) -> dict[str, Any]:
    asked = await asyncio.to_thread(parse_values, call.arguments, AlternativesRequest)
    one_token = {"prompt": asked.prompt, "max_tokens": 1, "logprobs": asked.count}
    body: Any = CompletionRequest.model_validate(one_token)
    async with _admitted(api, call) as begin:
        api.check_fits(await api.count_tokens(asked.prompt), "The prompt has", "prompt")
        completions = await completions_for(api, body, call.caller)
        await begin(completions)
        (choice,) = await completions.whole()
    tops = choice["logprobs"]["top_logprobs"]  # also contains the drawn token
    if not tops:
        raise ApiError(422, str(message("refused.next_filtered")), code="filtered")
    (top,) = tops
    likeliest = sorted(top.items(), key=lambda one: -one[1])
    return {
        "alternatives": [
            {"token": token, "logprob": logprob, "probability": math.exp(logprob)}
            for token, logprob in likeliest[: asked.count]
        ]
    }


async def _scores(
    api: Context,
    call: Call,
    prompts: Sequence[str | list[int]],
    continuations: Sequence[str | list[int]],
    alternatives: int,
) -> list[dict[str, Any]]:
    async def report() -> None:
        await call.report(scores.completions.prompts_done, len(prompts))

    async with _admitted(api, call) as begin:
        scores = await scores_for(
            api, prompts, continuations, alternatives, call.caller, MOST_LOGPROBS
        )
        await begin(scores.completions)
        return await scores.whole(report)


@asynccontextmanager
async def _admitted(api: Context, call: Call) -> AsyncIterator[Begin]:
    """Admit a call within the caller's limits; leaving ends its completions and counts their
    tokens."""
    async with AsyncExitStack() as resources:
        admitted = resources.enter_context(api.access.admit(call.caller))

        async def begin(completions: Completions) -> None:
            await api.reserve(resources, admitted, completions, call.request)
            await completions.begin()

        yield begin
