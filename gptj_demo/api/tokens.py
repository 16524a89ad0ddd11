"""Texts to tokens and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.answers import json_answer
from gptj_demo.api.bodies import aside
from gptj_demo.api.context import Context
from gptj_demo.api.description import body_of
from gptj_demo.api.errors import ApiError
from gptj_demo.api.responses import DetokenizeResponse, TokenCountResponse, TokenizeResponse
from gptj_demo.api.schema import (
    DetokenizeRequest,
    TokenCountRequest,
    TokenizeRequest,
    read_body,
)
from gptj_demo.tokenization import Token


class Tokens:
    """`/tokenize`, `/detokenize` and `/v1/internal/token-count`."""

    def __init__(self, api: Context) -> None:
        self._api = api

    def add_to(self, router: APIRouter) -> None:
        post = partial(router.post, response_class=JSONResponse)
        described = body_of(TokenizeRequest)
        post("/tokenize", response_model=TokenizeResponse, openapi_extra=described)(self.tokenize)
        described = body_of(DetokenizeRequest)
        post("/detokenize", response_model=DetokenizeResponse, openapi_extra=described)(
            self.detokenize
        )
        post(
            "/v1/internal/token-count",
            response_model=TokenCountResponse,
            openapi_extra=body_of(TokenCountRequest),
        )(self.token_count)

    async def token_count(self, request: Request) -> Response:
        """How many tokens a text has, at text-generation-webui's address."""
        caller = self._api.access.identify(request)
        body = await read_body(request, TokenCountRequest)
        self._api.ready_model(None)
        with self._api.access.admit(caller) as admitted:
            count = await self._api.count_tokens(body.text)
            admitted.used_tokens = count
        return JSONResponse({"length": count})

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a text."""
        caller = self._api.access.identify(request)
        body = await read_body(request, TokenizeRequest)
        self._api.ready_model(body.model)
        with self._api.access.admit(caller) as admitted:
            tokens = await self._api.worker.tokenize(body.prompt)
            admitted.used_tokens = len(tokens)
            length = {"count": len(tokens), "max_model_len": self._api.worker.context_length}
            return await json_answer(length | await aside(len(tokens), _listed, tokens))

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens; broken characters become replacement characters."""
        caller = self._api.access.identify(request)
        body = await read_body(request, DetokenizeRequest)
        self._api.ready_model(body.model)
        vocabulary = self._api.worker.require_ready().vocabulary
        wrong = next((i for i in body.tokens if i >= vocabulary.size), None)
        if wrong is not None:
            raise ApiError(
                400,
                f"Token id {wrong} is not in the vocabulary; ids are 0 to {vocabulary.size - 1}.",
                code="invalid_value",
                param="tokens",
            )
        with self._api.access.admit(caller) as admitted:
            admitted.used_tokens = len(body.tokens)
        data = b"".join(map(vocabulary.bytes_of, body.tokens))
        return JSONResponse({"prompt": data.decode(errors="replace")})


def _listed(tokens: Sequence[Token]) -> dict[str, Any]:
    """Tokens as the parallel lists of `/tokenize`."""
    return {
        "tokens": [token.token_id for token in tokens],
        "token_strs": [token.text for token in tokens],
        "byte_offsets": [token.start for token in tokens],
    }
