"""`/v1/score`: how probable each of several continuations of one prompt is."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.choices import Shape
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError
from gptj_demo.api.responses import ScoreResponse
from gptj_demo.api.schema import ScoreRequest, params_of, read_body
from gptj_demo.api.streaming import unless_caller_leaves


class Score:
    """`/v1/score`. Prompt and continuations are tokenized separately."""

    def __init__(self, api: Context) -> None:
        self._api = api

    def add_to(self, router: APIRouter) -> None:
        router.post(
            "/v1/score",
            response_class=JSONResponse,
            response_model=ScoreResponse,
            openapi_extra=body_of(ScoreRequest),
        )(self.score)

    async def score(self, request: Request) -> Response:
        """The log-probability of each continuation after the prompt, in the order given."""
        caller = self._api.access.identify(request)
        body = await read_body(request, ScoreRequest)
        model = self._api.ready_model(body.model)
        prompt = await self._ids(body.prompt, begins=True) or (model.bos_token_id,)
        continuations = [await self._ids(one, begins=False) for one in body.continuations]
        if not all(continuations):
            raise ApiError(
                400,
                f"Continuation {continuations.index(())} is empty.",
                code="invalid_value",
                param="continuations",
            )
        alternatives = body.logprobs or 0
        params = params_of({"max_new_tokens": 0, "echo": True, "logprobs": alternatives})
        texts: list[str | tuple[int, ...]] = [prompt + one for one in continuations]
        await self._api.check_prompts(texts)
        async with AsyncExitStack() as resources:
            shape = Shape(prompt_logprobs=alternatives)
            completions = Completions(self._api.worker, texts, params, shape, caller)
            await self._api.begin(resources, caller, completions, request)
            choices = await unless_caller_leaves(request, completions.whole())
            scores = [
                _describe(index, ids, choice["prompt_logprobs"][-len(ids) :])
                for index, (ids, choice) in enumerate(zip(continuations, choices, strict=True))
            ]
            return JSONResponse(
                {
                    "object": "list",
                    "model": self._api.id_of(model),
                    "data": scores,
                    "usage": completions.usage.json(),
                }
            )

    async def _ids(self, text: str | list[int], *, begins: bool) -> tuple[int, ...]:
        """The token ids of a prompt (if it `begins` a text) or a continuation."""
        if not isinstance(text, str):
            return tuple(text)
        return tuple(one.token_id for one in await self._api.worker.tokenize(text, begins=begins))


def _describe(
    index: int, token_ids: tuple[int, ...], probable: list[dict[str, Any]]
) -> dict[str, Any]:
    """One score; `probable` stands beside the tokens, as in `prompt_logprobs`."""
    own = [one[str(token_id)] for token_id, one in zip(token_ids, probable, strict=True)]
    total = sum(one["logprob"] for one in own)
    return {
        "index": index,
        "sum_logprob": total,
        "mean_logprob": total / len(own),
        "is_greedy": all(one["rank"] == 1 for one in own),
        "token_ids": token_ids,
        "token_logprobs": [one["logprob"] for one in own],
        "logprobs": probable,
    }
