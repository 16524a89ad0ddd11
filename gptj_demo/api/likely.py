"""`/v1/likely`: the most probable continuations of a prompt, as a tree of tokens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.answers import json_answer
from gptj_demo.api.completions import Usage
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.responses import LikelyResponse
from gptj_demo.api.schema import LikelyRequest, read_body, read_params
from gptj_demo.api.streaming import unless_caller_leaves
from gptj_demo.client.likely import Limits, Node, covered, described, fit_prompt, grow
from gptj_demo.sampling import TREE_CONTROLS

_CONTROLS = {control.api_name for control in TREE_CONTROLS}


class Likely:
    """`/v1/likely`."""

    def __init__(self, api: Context) -> None:
        self._api = api

    def add_to(self, router: APIRouter) -> None:
        router.post(
            "/v1/likely",
            response_class=JSONResponse,
            response_model=LikelyResponse,
            openapi_extra=body_of(LikelyRequest),
        )(self.likely)

    async def likely(self, request: Request) -> Response:
        """The most probable continuations of a prompt, as a tree of tokens."""
        caller = self._api.access.identify(request)
        body: Any = await read_body(request, LikelyRequest)
        model = self._api.ready_model(body.model)
        params = read_params(body)
        limits = Limits(body.max_nodes, body.max_depth, body.min_probability)
        nodes: list[Node] = []
        is_controlled = not _CONTROLS.isdisjoint(body.model_fields_set - {"truncate"})
        with self._api.access.admit(caller) as admitted:
            given = await self._ids(body.prompt)
            ids, limits = fit_prompt(self._api.worker, given, limits, params.truncate)
            admitted.reserve(len(ids) + limits.nodes)
            try:
                growing = grow(
                    self._api.worker, ids, limits, params if is_controlled else None, caller
                )
                await unless_caller_leaves(request, _collect(growing, nodes))
            finally:
                usage = Usage(prompt_tokens=len(ids), completion_tokens=len(nodes))
                admitted.used_tokens = usage.total
        vocabulary = self._api.worker.require_ready().vocabulary
        return await json_answer(
            {
                "object": "list",
                "model": self._api.id_of(model),
                "after_controls": is_controlled,
                "data": [described(vocabulary, node) for node in nodes],
                "covered": [round(share, 6) for share in covered(nodes)],
                "usage": usage.json(),
            }
        )

    async def _ids(self, prompt: str | list[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            ids = await self._api.token_ids(prompt)
        else:
            ids = tuple(prompt)
        await self._api.check_prompts([ids])
        return ids


async def _collect(growing: AsyncGenerator[list[Node], None], nodes: list[Node]) -> None:
    async with aclosing(growing) as steps:
        async for new in steps:
            nodes += new
