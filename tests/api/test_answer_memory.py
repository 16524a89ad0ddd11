"""The common limit on the log-probabilities of the answers that are made at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from starlette.types import Message

from gptj_demo.api.answer_memory import SHARE_BYTES, TOTAL_BYTES, AnswerMemory, size_of
from gptj_demo.api.answers import JsonAnswer
from gptj_demo.api.choices import Shape
from gptj_demo.api.errors import ApiError
from gptj_demo.protocol import Visitor
from tests.waiting import PATIENCE, eventually

from .conftest import Playground

ME, NEIGHBOUR, OTHER, THIRD = (
    Visitor(name, address)
    for name, address in (("me", "here"), ("you", "here"), ("he", "there"), ("she", "elsewhere"))
)
HALF = SHARE_BYTES // 2


@pytest.fixture
def memory() -> AnswerMemory:
    return AnswerMemory()


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def refused(memory: AnswerMemory, caller: Visitor, size: int) -> None:
    with pytest.raises(ApiError) as error, memory.reserve(caller, size):
        pass
    assert (error.value.status, error.value.code) == (429, "too_many_logprobs")
    assert int(error.value.headers["Retry-After"]) > 0


def passes(memory: AnswerMemory, caller: Visitor, size: int) -> None:
    with memory.reserve(caller, size):
        pass


def test_an_address_has_half_of_the_memory(memory: AnswerMemory, held: ExitStack) -> None:
    held.enter_context(memory.reserve(ME, HALF))
    held.enter_context(memory.reserve(NEIGHBOUR, HALF))
    refused(memory, ME, 1)
    refused(memory, NEIGHBOUR, 1)
    passes(memory, OTHER, SHARE_BYTES)
    refused(memory, OTHER, SHARE_BYTES + 1)


def test_all_addresses_have_the_memory_together(memory: AnswerMemory, held: ExitStack) -> None:
    held.enter_context(memory.reserve(ME, SHARE_BYTES))
    held.enter_context(memory.reserve(OTHER, SHARE_BYTES - 10))
    refused(memory, THIRD, 11)
    passes(memory, THIRD, 10)
    passes(memory, THIRD, 0)


def test_an_answer_of_any_size_passes_alone(memory: AnswerMemory, held: ExitStack) -> None:
    with memory.reserve(ME, TOTAL_BYTES + 1):
        refused(memory, OTHER, 1)
        passes(memory, OTHER, 0)
    held.enter_context(memory.reserve(OTHER, 0))
    passes(memory, ME, TOTAL_BYTES + 1)


def test_an_answer_that_fails_releases_its_memory(memory: AnswerMemory) -> None:
    with pytest.raises(KeyError), memory.reserve(ME, SHARE_BYTES):
        raise KeyError
    passes(memory, ME, SHARE_BYTES)


def test_the_size_counts_every_form_of_log_probabilities() -> None:
    plain = size_of(10, 2, Shape(logprobs=2))
    ranked = size_of(10, 2, Shape(prompt_logprobs=2))
    assert size_of(10, 2, Shape()) == 0 < plain < ranked
    assert size_of(10, 2, Shape(logprobs=2, prompt_logprobs=2)) == plain + ranked


@pytest.mark.parametrize("leaves", [False, True])
def test_an_answer_keeps_its_resources_until_it_is_sent(leaves: bool) -> None:
    content = bytes(10 * 2**20)
    got: list[Message] = []

    async def scenario() -> None:
        released, stopped = asyncio.Event(), asyncio.Event()
        resources = AsyncExitStack()
        resources.callback(released.set)

        async def send(message: Message) -> None:
            if len(got) == 3 and not stopped.is_set():  # the buffer is full
                stopped.set()
                await asyncio.Event().wait() if leaves else await asyncio.sleep(0)
            assert not released.is_set()
            got.append(message)

        answer = JsonAnswer(content, resources)
        sending = asyncio.ensure_future(answer({"type": "http"}, no_message, send))
        await stopped.wait()
        assert not released.is_set()
        if leaves:
            sending.cancel()
        await asyncio.wait([sending])
        assert released.is_set()

    asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    if not leaves:
        assert b"".join(message.get("body", b"") for message in got) == content
        assert [message.get("more_body") for message in got[1:]] == [True] * (len(got) - 2) + [
            False
        ]


async def no_message() -> Message:
    raise AssertionError


def large(playground: Playground) -> dict[str, Any]:
    """A request that takes more than half of an address's share."""
    context = playground.http.get("/v1/models").json()["data"][0]["max_model_len"]
    ids = [200 + number % 300 for number in range(context)]
    count = 1 + SHARE_BYTES // 2 // size_of(context, 20, Shape(prompt_logprobs=20))
    return {"prompt": [ids] * count, "max_tokens": 0, "echo": True, "prompt_logprobs": 20}


def test_a_large_answer_waits_for_the_memory_of_another(playground: Playground) -> None:
    body = large(playground)

    def status(**changes: Any) -> int:
        """Of a stream of which only the head is read."""
        asked = {**body, "stream": True, **changes}
        with playground.http.stream("POST", "/v1/completions", json=asked) as answer:
            return answer.status_code

    with playground.paused():
        with playground.http.stream("POST", "/v1/completions", json={**body, "stream": True}):
            answer = playground.http.post("/v1/completions", json=body)
            assert answer.status_code == 429
            assert answer.json()["error"]["code"] == "too_many_logprobs"
            assert int(answer.headers["retry-after"]) > 0
            scored = [ids[1:] for ids in body["prompt"]]
            score = {"prompt": "", "continuations": scored, "logprobs": 20}
            assert playground.http.post("/v1/score", json=score).status_code == 429
            assert status(prompt_logprobs=None, echo=False, max_tokens=1) == 200
        eventually(lambda: status() == 200)  # once the server has noticed that the caller left


def test_an_answer_that_is_not_read_keeps_its_memory(playground: Playground) -> None:
    url = playground.http.base_url
    body = playground.http.build_request("POST", "/v1/completions", json=large(playground))
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {url.host}:{url.port}\r\n"
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body.content)}\r\n\r\n"

    def code() -> int:
        return playground.http.post("/v1/completions", json=large(playground)).status_code

    with socket.create_connection((url.host, url.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall((head + fields).encode() + body.content)
        assert slow.recv(12) == b"HTTP/1.1 200"  # the answer is complete
        assert code() == 429
    eventually(lambda: code() == 200)
