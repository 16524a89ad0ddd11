"""A small completions server that behaves like one of those that people have.

It writes the tokens of its script, in vLLM's way, in llama.cpp's, or in the plain way of
OpenAI; it can be busy, refuse a key, break a stream off, and be stopped and started again.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.engine.checkpoints import make_tokenizer
from tests.processes import free_port
from tests.web_server import WebServer

Kind = Literal["vllm", "llama", "plain"]
MODEL = "some/model"
KEY = "sk-none-of-your-business"
VLLM_FIELDS = (
    "model", "prompt", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
    "presence_penalty", "seed", "stop", "stream", "temperature", "top_p", "top_k", "min_p",
    "repetition_penalty", "stop_token_ids", "ignore_eos", "min_tokens", "allowed_token_ids",
    "prompt_logprobs", "bad_words", "structured_outputs", "return_token_ids",
    "return_tokens_as_token_ids",
)  # fmt: skip
LLAMA_PARAMS = (
    "top_k", "min_p", "typical_p", "repeat_penalty", "repeat_last_n", "mirostat", "dry_multiplier",
    "dry_base", "dry_allowed_length", "dry_sequence_breakers",
)  # fmt: skip


class StandIn:
    """`script` has the token ids of each event of a stream, `asked` the bodies of all requests."""

    def __init__(self, kind: Kind, script: list[list[int]], *, finish: str = "length") -> None:
        self.kind, self.script, self.finish = kind, script, finish
        self.tokenizer = make_tokenizer()
        self.asked: list[dict[str, Any]] = []
        self.busy = 0  # requests to refuse as busy
        self.breaks_after: int | None = None  # in tokens; breaks one stream
        self.lists_models = False  # to everyone
        self.models_status: int | None = None  # instead of the list of models
        self.closes_beside: int | None = None  # status of paths outside of /v1
        self.pauses = False  # after the first token
        self.refuses_scores = False
        self.hidden_score: int | None = None  # position
        self.may_score = threading.Event()  # cleared to hold back a prompt's probabilities
        self.may_score.set()
        self.is_left = threading.Event()  # set when a caller leaves early
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._server: WebServer | None = None

    # ---- its life

    def start(self) -> None:
        routes = [
            Route("/v1/models", self._models),
            Route("/v1/completions", self._completions, methods=["POST"]),
            Route("/openapi.json", self._described),
            Route("/props", self._props),
        ]
        self._server = WebServer(Starlette(routes=routes), port=self.port)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def written(self) -> list[dict[str, Any]]:
        """The bodies that asked for a stream."""
        return [body for body in self.asked if body.get("stream")]

    # ---- its routes

    async def _models(self, request: Request) -> Response:
        is_open = self.lists_models or request.headers.get("Authorization") == f"Bearer {KEY}"
        if not is_open:
            return JSONResponse({"error": {"message": f"wrong key {KEY}"}}, 401)
        if self.models_status is not None:
            return JSONResponse({"error": {"message": "not now"}}, self.models_status)
        return JSONResponse({"data": [{"id": MODEL, "max_model_len": 64}]})

    async def _described(self, request: Request) -> Response:
        if self.kind != "vllm" or self.closes_beside is not None:
            return Response(status_code=self.closes_beside or 404)
        schema = {"properties": {name: {} for name in VLLM_FIELDS}}
        body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/C"}}}}
        paths = {"/v1/completions": {"post": {"requestBody": body}}}
        return JSONResponse({"paths": paths, "components": {"schemas": {"C": schema}}})

    async def _props(self, request: Request) -> Response:
        if self.kind != "llama" or self.closes_beside is not None:
            return Response(status_code=self.closes_beside or 404)
        params = dict.fromkeys(LLAMA_PARAMS, 0)
        return JSONResponse({"default_generation_settings": {"params": params}})

    async def _completions(self, request: Request) -> Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": {"message": f"wrong key {KEY}"}}, 401)
        body = await request.json()
        self.asked.append(body)
        if self.busy:
            self.busy -= 1
            return JSONResponse({"error": {"message": "full"}}, 429, {"Retry-After": "0.1"})
        if body.get("top_p") == 0:
            return JSONResponse({"error": {"message": "top_p must be in (0, 1]."}}, 400)
        if isinstance(body["prompt"], list) and self.kind == "plain":
            return JSONResponse({"error": {"message": "prompt must be a text"}}, 400)
        if body.get("stream"):
            return StreamingResponse(self._stream(body, request), media_type="text/event-stream")
        prompt = self._ids(body)
        choice = self._choice(body, self.script[0][:1], "length")
        if "prompt_logprobs" in body:
            if self.refuses_scores:
                return JSONResponse({"error": {"message": "no scores today"}}, 400)
            while not self.may_score.is_set():
                await asyncio.sleep(0.01)
            scored = [self._entry(one, place) for place, one in enumerate(prompt)]
            choice["prompt_logprobs"] = [None, *scored[1:]]
            if self.hidden_score is not None:
                choice["prompt_logprobs"][self.hidden_score] = None
        if body.get("return_token_ids"):
            choice["prompt_token_ids"] = prompt
        usage = {"prompt_tokens": len(prompt), "completion_tokens": 1}
        return JSONResponse({"choices": [choice], "usage": usage})

    async def _stream(self, body: dict[str, Any], request: Request) -> AsyncIterator[str]:
        """The part of the script that follows the prompt."""
        done = len(self._ids(body)) - self._first_prompt
        ends = list(accumulate(map(len, self.script)))
        rest = [ids for ids, end in zip(self.script, ends, strict=True) if end > done]
        try:
            for place, ids in enumerate(rest):
                if self.breaks_after == place:
                    self.breaks_after = None
                    return  # without an end
                is_last = place == len(rest) - 1
                yield self._event(self._choice(body, ids, self.finish if is_last else None))
                if self.pauses:
                    await asyncio.sleep(3600)
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.is_left.set()
            raise

    @property
    def _first_prompt(self) -> int:
        return len(self._ids(self.written[0]))

    def _ids(self, body: dict[str, Any]) -> list[int]:
        prompt = body["prompt"]
        return prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt).ids

    def _event(self, choice: dict[str, Any]) -> str:
        # as vLLM writes it: U+2028 and its like stand in the text as they are
        return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n"

    def _choice(self, body: dict[str, Any], ids: list[int], finish: str | None) -> dict[str, Any]:
        text = self.tokenizer.decode(ids)
        choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": finish}
        if self.kind == "vllm" and body.get("return_token_ids"):
            choice["token_ids"] = ids
        if body.get("logprobs") is None or self.kind == "plain":
            return choice
        if self.kind == "llama":
            shared = {"logprob": -0.5, "top_logprobs": []}
            tokens = [{"id": one, "token": self.tokenizer.decode([one]), **shared} for one in ids]
            choice["logprobs"] = {"content": tokens}
            return choice
        choice["logprobs"] = {
            "tokens": [f"token_id:{one}" for one in ids],
            "token_logprobs": [-0.5 for _ in ids],
            "top_logprobs": [{f"token_id:{one}": -0.5, f"token_id:{one - 1}": -1.5} for one in ids],
            "text_offset": [0 for _ in ids],
        }
        return choice

    def _entry(self, token_id: int, place: int) -> dict[str, Any]:
        own = {"logprob": -1.0 - place, "rank": 2, "decoded_token": "x"}
        return {str(token_id): own, "1": {"logprob": -0.25, "rank": 1, "decoded_token": "y"}}
