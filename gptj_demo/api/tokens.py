"""Texts to tokens and back."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

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
        self._api.access.identify(request)
        body = await read_body(request, TokenCountRequest)
        self._api.ready_model(None)
        return JSONResponse({"length": await self._api.count_tokens(body.text)})

    async def tokenize(self, request: Request) -> Response:
        """The tokens of a text."""
        self._api.access.identify(request)
        body = await read_body(request, TokenizeRequest)
        self._api.ready_model(body.model)
        tokens = await self._api.worker.tokenize(body.prompt)
        return JSONResponse(
            {
                "count": len(tokens),
                "max_model_len": self._api.worker.context_length,
                "tokens": [token.token_id for token in tokens],
                "token_strs": [token.text for token in tokens],
                "byte_offsets": [token.start for token in tokens],
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of tokens; broken characters become replacement characters."""
        self._api.access.identify(request)
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
        data = b"".join(map(vocabulary.bytes_of, body.tokens))
        return JSONResponse({"prompt": data.decode(errors="replace")})
