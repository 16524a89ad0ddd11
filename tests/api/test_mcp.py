"""`/mcp` with the client of the package `mcp`, in both versions of its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.requests import Request

from gptj_demo.api import mcp
from gptj_demo.api.access import Access
from gptj_demo.api.context import Context
from gptj_demo.api.errors import ApiError
from gptj_demo.client import Worker
from gptj_demo.settings import Settings
from tests.waiting import PATIENCE, eventually

from .conftest import Playground

PROMPT = "Once upon a time there was a king who"
MODES = ("auto", "legacy")
LONG = {"prompt": "Once", "max_tokens": 900, "ignore_eos": True}

both = pytest.mark.parametrize("mode", MODES)


def with_client(
    playground: Playground, mode: str, act: Callable[[Client], Awaitable[Any]], **headers: str
) -> Any:
    """What `act` returns, with a client of the playground."""

    async def run() -> Any:
        async with httpx2.AsyncClient(trust_env=False, headers=headers, timeout=PATIENCE) as http:
            transport = streamable_http_client(f"{playground.url}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                return await act(client)

    return asyncio.run(run())


def call(playground: Playground, name: str, mode: str = "auto", **arguments: Any) -> Any:
    """What a tool returns."""
    result = with_client(playground, mode, lambda client: client.call_tool(name, arguments))
    assert not result.is_error, result.content
    return result.structured_content


@both
def test_a_client_lists_four_tools(playground: Playground, mode: str) -> None:
    listed = with_client(playground, mode, lambda client: client.list_tools())
    tools = {tool.name: tool for tool in listed.tools}
    assert list(tools) == ["generate", "score", "alternatives", "compare"]
    for tool in listed.tools:
        assert tool.description
        fields = tool.input_schema["properties"]
        assert all(field["description"] for field in fields.values())
        assert set(tool.input_schema["required"]) <= set(fields)
    assert tools["generate"].input_schema["required"] == ["prompt"]


@both
def test_generate_returns_the_texts_of_the_completions_route(
    playground: Playground, mode: str
) -> None:
    body = {"max_tokens": 12, "seed": 3, "n": 2, "top_k": 20}
    answer = call(playground, "generate", mode, prompt=PROMPT, **body)
    texts = [choice["text"] for choice in playground.choices(PROMPT, **body)]
    assert [choice["text"] for choice in answer["choices"]] == texts
    assert answer["usage"]["completion_tokens"] <= 24


@both
def test_score_and_compare_give_the_numbers_of_the_api(playground: Playground, mode: str) -> None:
    texts = [" lived", " was very rich"]
    body = {"prompt": PROMPT, "continuations": texts}
    scores = playground.http.post("/v1/score", json=body).json()["data"]
    assert call(playground, "score", mode, **body)["scores"] == scores
    prompts = ["The dog", PROMPT]
    compared = call(playground, "compare", mode, prompts=prompts, continuation=texts[0])["scores"]
    assert [one["index"] for one in compared] == [1, 0]
    assert compared[0]["sum_logprob"] == scores[0]["sum_logprob"]


def test_alternatives_are_the_most_probable_next_tokens(playground: Playground) -> None:
    alternatives = call(playground, "alternatives", prompt=PROMPT, count=5)["alternatives"]
    (choice,) = playground.choices(PROMPT, max_tokens=1, temperature=0, logprobs=5)
    (top,) = choice["logprobs"]["top_logprobs"]
    assert {one["token"]: one["logprob"] for one in alternatives} == top
    assert [one["probability"] for one in alternatives] == sorted(
        (one["probability"] for one in alternatives), reverse=True
    )


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("generate", {"prompt": "a", "temperature": 9}, "temperature"),
        ("generate", {"prompt": "a", "stream": True}, "stream has no effect in this tool"),
        ("generate", {"prompt": "a", "nonsense": 1}, "no parameter named 'nonsense'"),
        ("generate", {}, "prompt is missing"),
        ("alternatives", {"prompt": "word " * 3000}, "Leave out"),
        ("score", {"prompt": "a", "continuations": [""]}, "Continuation 0 is empty."),
        ("alternatives", {"prompt": "a", "count": 99}, "count"),
        ("compare", {"prompts": [], "continuation": "a"}, "prompts"),
        ("translate", {}, "the tools are: generate, score"),
    ],
)
def test_an_invalid_call_returns_an_error_sentence(
    playground: Playground, name: str, arguments: dict[str, Any], said: str
) -> None:
    for mode in MODES:
        result = with_client(playground, mode, lambda client: client.call_tool(name, arguments))
        (content,) = result.content
        assert result.is_error
        assert said in content.text
        assert content.text.endswith(".")


@both
def test_progress_is_reported_while_a_text_is_written(playground: Playground, mode: str) -> None:
    seen = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    with_client(
        playground,
        mode,
        lambda client: client.call_tool("generate", LONG, progress_callback=note),
    )
    assert len(seen) > 2
    assert [one for one, _ in seen] == sorted({one for one, _ in seen})
    assert {total for _, total in seen} == {900}


@both
def test_a_client_that_leaves_ends_its_call(playground: Playground, mode: str) -> None:
    name = 'gptj_requests_total{outcome="cancelled"}'
    before = playground.metrics()[name]

    async def leave(client: Client) -> None:
        started = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            started.set()

        asked = asyncio.ensure_future(
            client.call_tool("generate", {**LONG, "n": 4}, progress_callback=note)
        )
        await started.wait()
        playground.pause_engine()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    try:
        with_client(playground, mode, leave)
        eventually(lambda: playground.metrics()[name] == before + 1)
    finally:
        playground.resume_engine()


def test_other_methods_and_other_bodies_are_refused(playground: Playground) -> None:
    answer = playground.http.get("/mcp", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    plain = {"Accept": "text/plain"}
    assert playground.http.post("/mcp", json={}, headers=plain).status_code == 406
    answer = playground.http.post("/mcp", json=[1])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("found", ["1.30.0", None])
def test_without_the_mcp_package_the_route_returns_404_and_names_it(
    monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    """ZeroGPU Spaces install another version of the package."""

    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(mcp, "version", version)
    settings = Settings(model="sample")
    served = mcp.Mcp(Context(Worker(settings), settings, Access(settings)))
    request = Request({"type": "http", "method": "POST", "headers": [], "client": ("1.1.1.1", 1)})
    with pytest.raises(ApiError, match="the package mcp 2") as refused:
        asyncio.run(served.serve(request))
    assert refused.value.status == 404
