"""KoboldAI's and KoboldCpp's routes for generation: `/api/v1/...` and `/api/extra/...`.

Their bodies become those of `/v1/completions`. A prompt that is too long loses its beginning.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gptj_demo.api.bodies import aside
from gptj_demo.api.completions import Completions
from gptj_demo.api.context import Context
from gptj_demo.api.errors import ApiError
from gptj_demo.api.json_body import read_object
from gptj_demo.api.matching import named_as_given
from gptj_demo.api.openai import completions_for
from gptj_demo.api.schema import CompletionRequest, parse_values
from gptj_demo.api.streaming import KEEP_ALIVE, EventStream, unless_caller_leaves
from gptj_demo.protocol import Visitor
from gptj_demo.sampling import FILTERS
from gptj_demo.texts import quoted

GENERATE = "/api/v1/generate"
STREAM = "/api/extra/generate/stream"
DEFAULTS = {"max_tokens": 80, "truncate": "left"}
ALIASES = {"max_length": "max_tokens", "max_context_length": "truncation_length"}
VERSIONS = {
    "v1/info/version": {"result": "1.2.5"},
    "extra/version": {"result": "KoboldCpp", "version": "1.60"},
}
"""The API that clients are shown; they stream only with KoboldCpp from 1.30 on."""
OFF = (
    "use_story", "use_memory", "use_authors_note", "use_world_info", "singleline", "frmttriminc",
    "frmtrmblln", "frmtrmspch", "frmtadsnsp", "render_special", "memory",
)  # fmt: skip
"""Fields that have no effect when they are false or empty."""
NOT_SHOWN = (
    "stream_options", "logprobs", "prompt_logprobs", "return_token_ids",
    "return_tokens_as_token_ids", "timings",
)  # fmt: skip
"""Fields of `/v1/completions` for parts of an answer that answers here lack."""
NUMBERED = ("top_k", "top_a", "top_p", "tfs", "typical_p", "temperature")
"""The filters by their numbers in KoboldAI's `sampler_order`, where 6 is the repetition penalty."""


class Kobold:
    """The routes that generate, stream and abort, and those that clients query before."""

    def __init__(self, api: Context) -> None:
        self._api = api
        self._open: dict[_Owner, list[Completions]] = {}

    def add_to(self, router: APIRouter) -> None:
        for path, answer in VERSIONS.items():
            router.get(f"/api/{path}", include_in_schema=False)(_constant(answer))
        context = ("v1/config/max_context_length", "extra/true_max_context_length")
        for path in ("v1/model", *context):
            router.get(f"/api/{path}", include_in_schema=False)(self.model)
        router.post(GENERATE, include_in_schema=False)(self.generate)
        router.post(STREAM, include_in_schema=False)(self.stream)
        router.post("/api/extra/abort", include_in_schema=False)(self.abort)

    async def model(self, request: Request) -> Response:
        """The model's id, and as `value` its context length in tokens."""
        self._api.access.identify(request)
        model = self._api.ready_model(None)
        return JSONResponse({"result": self._api.id_of(model), "value": model.context_length})

    async def generate(self, request: Request) -> Response:
        """Continue a text."""

        async def collect() -> list[dict[str, Any]]:
            # an aborted text ends where it is and has no reason
            results: list[dict[str, Any]] = [
                {"text": "", "finish_reason": None} for _ in range(completions.texts)
            ]
            async with aclosing(completions.pieces()) as batches:
                async for pieces in batches:
                    for piece in pieces:
                        results[piece.index]["text"] += piece.text
                        results[piece.index]["finish_reason"] = piece.finish_reason
            return results

        async with AsyncExitStack() as resources:
            completions = await self._begin(resources, request)
            results = await unless_caller_leaves(request, collect())
            return JSONResponse({"results": results})

    async def stream(self, request: Request) -> Response:
        """Continue a text, and send it as it is written."""

        async def events() -> AsyncGenerator[bytes, None]:
            async with aclosing(completions.pieces()) as batches:
                async for pieces in batches:
                    if not pieces:
                        yield KEEP_ALIVE
                    for piece in pieces:
                        data = {"token": piece.text, "finish_reason": piece.finish_reason}
                        yield f"event: message\ndata: {json.dumps(data)}\n\n".encode()

        async with AsyncExitStack() as resources:
            completions = await self._begin(resources, request, is_stream=True)
            return EventStream(events(), resources.pop_all())

    async def abort(self, request: Request) -> Response:
        """End the caller's requests with the given `genkey`, or the only one without."""
        caller = self._api.access.identify(request)
        content = await request.body()
        owner = _owner_of(caller, await aside(len(content), _read, content), request)
        found = list(self._open.get(owner, ()))
        if not owner.genkey and len(found) > 1:
            found = []  # as in KoboldCpp: they can be those of several people
        for completions in found:
            await completions.aclose()
        return JSONResponse({"success": bool(found)})

    async def _begin(
        self, resources: AsyncExitStack, request: Request, *, is_stream: bool = False
    ) -> Completions:
        """The completions of a request, in the queue; leaving `resources` ends them."""
        caller = self._api.access.identify(request)
        content = await request.body()
        given, body = await aside(len(content), _parse, content)
        _check_shown(body, is_stream)
        admitted = resources.enter_context(self._api.access.admit(caller))
        with named_as_given(body):
            completions = await completions_for(self._api, body, caller)
            if is_stream and completions.texts > 1:
                raise _wrong(
                    "n",
                    "A stream has one text, because its events do not name theirs: send one "
                    "prompt and n 1, or use /api/v1/generate.",
                )
            owner = _owner_of(caller, given, request)
            self._open.setdefault(owner, []).append(completions)
            resources.callback(self._forget, owner, completions)
            await self._api.begin(resources, admitted, completions, request)
        return completions

    def _forget(self, owner: _Owner, completions: Completions) -> None:
        self._open[owner].remove(completions)
        if not self._open[owner]:
            del self._open[owner]


class _Owner(NamedTuple):
    """Who can abort a request: its caller, with the `genkey` of the request.

    Several people can have one address. So without a `genkey`, the program must be the same too.
    """

    caller: str
    genkey: str
    program: str


def _owner_of(caller: Visitor, given: dict[str, Any], request: Request) -> _Owner:
    genkey = _key_of(given)
    return _Owner(caller.name, genkey, "" if genkey else request.headers.get("user-agent", ""))


def _read(content: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `ApiError`."""
    return read_object(content or b"{}")


def _parse(content: bytes) -> tuple[dict[str, Any], Any]:
    """The body as it was given and as one of `/v1/completions`; raises `ApiError`."""
    given = _read(content)
    ours = _in_our_terms(given)
    return given, parse_values(ours, CompletionRequest, aliases=ALIASES, defaults=DEFAULTS)


def _key_of(given: dict[str, Any]) -> str:
    """The key by which a generation is aborted."""
    key = given.get("genkey")
    if not isinstance(key, str | None):
        raise _wrong("genkey", f"genkey must be a text; it was {quoted(key)}.")
    return key or ""


def _in_our_terms(given: dict[str, Any]) -> dict[str, Any]:
    """A body of `/v1/completions` that means the same, but for the names in `ALIASES`."""
    ours = {name: value for name, value in given.items() if name not in OFF}
    for name in OFF:
        if value := given.get(name):
            why = (
                f"{name} has no effect here: leave it out, false or empty; it was {quoted(value)}."
            )
            raise _wrong(name, why)
    if ours.get("use_default_badwordsids") is True:  # these are the tokens that end a text
        del ours["use_default_badwordsids"]
        if ours.get("ignore_eos") not in (None, True):
            raise _wrong(
                "ignore_eos",
                "use_default_badwordsids is true, which needs ignore_eos true; it was "
                f"{quoted(ours['ignore_eos'])}.",
            )
        ours["ignore_eos"] = True
    if (order := ours.get("sampler_order")) is not None:
        ours["sampler_order"] = _filters(order)
    return ours


def _constant(answer: dict[str, str]) -> Callable[[], dict[str, str]]:
    """A route that always gives this answer. It has no parameter, which a query could set."""
    return lambda: answer


def _filters(order: Any) -> Any:
    """The names of the filters in KoboldAI's order of numbers, which may leave some out."""
    if not isinstance(order, list) or all(isinstance(one, str) for one in order):
        return order
    numbers = range(len(NUMBERED) + 1)
    if len(order) > len(numbers) or any(
        type(one) is not int or one not in numbers or order.count(one) > 1 for one in order
    ):
        raise _wrong(
            "sampler_order",
            f"sampler_order must be a list of different numbers from 0 to {numbers[-1]}; it was "
            f"{quoted(order)}.",
        )
    named = [NUMBERED[number] for number in order if number < len(NUMBERED)]
    return named + [name for name in FILTERS if name not in named]


def _check_shown(body: Any, is_stream: bool) -> None:
    """Raise `ApiError` 400 if a body asks for an answer of another form."""
    if body.stream is not None and body.stream != is_stream:
        does = "streams" if is_stream else "does not stream"
        other = GENERATE if is_stream else STREAM
        asked = quoted(body.stream)
        raise _wrong("stream", f"stream is {asked}, but this route {does}: use {other}.")
    for name in NOT_SHOWN:
        if getattr(body, name) not in (None, False):
            why = f"{name} has no effect here: leave it out, or use /v1/completions."
            raise _wrong(name, why)


def _wrong(param: str, why: str) -> ApiError:
    return ApiError(400, why, code="invalid_value", param=param)
