"""`/v1/score`: how probable each of several continuations of one prompt is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.answer_memory import MAX_LOGPROBS, size_of
from gptj_demo.api.answers import json_answer
from gptj_demo.api.choices import Shape
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError, of_refusal
from gptj_demo.api.responses import ScoreResponse
from gptj_demo.api.schema import ScoreRequest, params_of, read_body
from gptj_demo.api.streaming import unless_caller_leaves
from gptj_demo.client import RequestRefused
from gptj_demo.client.prompt import check_ids
from gptj_demo.client.scoring import shares_prefix
from gptj_demo.protocol import Visitor


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
        prompts = [body.prompt] * len(body.continuations)
        async with AsyncExitStack() as resources:
            admitted = resources.enter_context(self._api.access.admit(caller))
            scores = await scores_for(
                self._api, prompts, body.continuations, body.logprobs or 0, caller
            )
            await self._api.begin(resources, admitted, scores.completions, request)
            data = await unless_caller_leaves(request, scores.whole())
            return await json_answer(
                {
                    "object": "list",
                    "model": self._api.id_of(model),
                    "data": data,
                    "usage": scores.completions.usage.json(),
                },
                resources,
            )


class Scores:
    """The scores of continuations, each after its own prompt."""

    def __init__(self, completions: Completions, continuations: Sequence[tuple[int, ...]]) -> None:
        self.completions = completions
        self._continuations = continuations

    async def whole(
        self, report: Callable[[], Awaitable[None]] | None = None
    ) -> list[dict[str, Any]]:
        """All scores, in order; `report` is called as they arrive."""
        choices = await self.completions.whole(report)
        scores = []
        for index, (ids, choice) in enumerate(zip(self._continuations, choices, strict=True)):
            scores.append(_describe(index, ids, choice["prompt_logprobs"][-len(ids) :]))
            await asyncio.sleep(0)  # all of them can take a while
        return scores


async def scores_for(
    api: Context,
    prompts: Sequence[str | list[int]],
    continuations: Sequence[str | list[int]],
    alternatives: int,
    caller: Visitor,
    max_logprobs: int = MAX_LOGPROBS,
) -> Scores:
    """The scores of each continuation after the prompt with the same index, not queued yet.

    Prompt and continuation are tokenized separately. Raises `ApiError` and `RequestRefused`.
    """
    known: dict[tuple[str, bool], tuple[int, ...]] = {}

    async def ids_of(text: str | list[int], *, begins: bool) -> tuple[int, ...]:
        if not isinstance(text, str):
            check_ids(tuple(text), api.worker.require_ready().vocabulary)
            return tuple(text)
        if (text, begins) not in known:
            known[text, begins] = await api.token_ids(text, begins=begins)
        return known[text, begins]

    async def continuation(place: int, text: str | list[int]) -> tuple[int, ...]:
        try:
            return await ids_of(text, begins=False)
        except RequestRefused as refusal:
            error = of_refusal(refusal)
            if error.param == "prompt":
                error.param = "continuations"
                error.message = f"Continuation {place}: {error.message}"
            raise error from None

    begin_of_text = (api.ready_model(None).bos_token_id,)
    before = [await ids_of(one, begins=True) or begin_of_text for one in prompts]
    scored = [await continuation(place, one) for place, one in enumerate(continuations)]
    if not all(scored):
        raise ApiError(
            400,
            f"Continuation {scored.index(())} is empty.",
            code="invalid_value",
            param="continuations",
        )
    shape = Shape(prompt_logprobs=alternatives)
    size = size_of(sum(map(len, scored)), alternatives, shape, max_logprobs)
    params = params_of({"max_new_tokens": 0, "echo": True, "logprobs": alternatives})
    texts: list[str | tuple[int, ...]] = []
    for place, (prompt, one) in enumerate(zip(before, scored, strict=True)):
        texts.append(prompt + one)
        # nothing is cut off: each token before the continuation changes its probability
        param = "prompt" if len(prompt) >= len(one) else "continuations"
        api.check_fits(len(texts[-1]), f"Continuation {place} and its prompt have", param)
    await api.check_prompts(texts)
    completions = Completions(
        api.worker,
        texts,
        params,
        shape,
        caller,
        [len(one) for one in scored],
        first_alone=shares_prefix(before),
        logprobs_bytes=size,
    )
    return Scores(completions, scored)


def _describe(
    index: int, token_ids: tuple[int, ...], probable: list[dict[str, Any]]
) -> dict[str, Any]:
    """One score; `probable` has one entry for each token, as in `prompt_logprobs`."""
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
