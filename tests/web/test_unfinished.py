"""The common limit on the bodies that are being received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack

import httpx
import pytest
from starlette.types import Message, Receive

from gptj_demo.api.errors import ApiError
from gptj_demo.web import unfinished
from gptj_demo.web.unfinished import FREE_BYTES, SHARE_BYTES, TOTAL_BYTES, Unfinished
from tests.web.conftest import build_site

MIB = 2**20
LARGEST = 4 * MIB
END: Message = {"type": "http.request", "body": b"", "more_body": False}
LEFT: Message = {"type": "http.disconnect"}
PAGE = "/gradio_api/component_server/"
JSON = {"Content-Type": "application/json"}


def part(size: int) -> Message:
    return {"type": "http.request", "body": bytes(size), "more_body": True}


def large(counted: int) -> Message:
    """The first part of a body of which this many bytes are counted."""
    return part(FREE_BYTES + counted)


class Senders:
    """Callers whose requests stay open."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._unfinished = Unfinished(largest)
        self._requests: list[tuple[ExitStack, Receive, list[Message]]] = []

    async def send(self, address: str, *messages: Message) -> None:
        """A new request with these messages."""
        left: list[Message] = []

        async def receive() -> Message:
            return left.pop(0)

        stack = ExitStack()
        counted = self._unfinished.counted({"client": (address, 1)}, receive)
        self._requests.append((stack, stack.enter_context(counted), left))
        await self.go_on(-1, *messages)

    async def go_on(self, number: int, *messages: Message) -> None:
        """The next messages of a request."""
        stack, counted, left = self._requests[number]
        left[:] = messages
        try:
            for message in messages:
                assert await counted() is message
        except BaseException:
            stack.close()  # as the reader does that gets the exception
            raise

    def close(self, number: int) -> None:
        self._requests[number][0].close()


def run(test: Callable[[Senders], Awaitable[None]], largest: int = LARGEST) -> None:
    async def go() -> None:
        await test(Senders(largest))

    asyncio.run(go())


async def refused(senders: Senders, address: str, *messages: Message) -> None:
    with pytest.raises(ApiError) as error:
        await senders.send(address, *messages)
    assert error.value.status == 503
    assert int(error.value.headers["Retry-After"]) > 0


async def fill(senders: Senders, address: str) -> None:
    """Unfinished bodies that take the whole share of an address."""
    for _ in range(SHARE_BYTES // LARGEST):
        await senders.send(address, large(LARGEST - FREE_BYTES), part(FREE_BYTES))
    await senders.send(address, large(FREE_BYTES * (SHARE_BYTES // LARGEST)))


def test_bodies_within_the_limit_pass() -> None:
    async def test(senders: Senders) -> None:
        for number in range(TOTAL_BYTES // SHARE_BYTES):
            await fill(senders, f"10.0.0.{number}")

    run(test)


def test_bodies_beyond_the_total_are_refused_except_small_ones() -> None:
    async def test(senders: Senders) -> None:
        for number in range(TOTAL_BYTES // SHARE_BYTES):
            await fill(senders, f"10.0.0.{number}")
        await refused(senders, "10.0.1.1", large(1))
        await senders.send("10.0.1.1", part(FREE_BYTES), END)

    run(test)


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [("10.0.0.1", "10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")],
)
def test_one_address_has_a_share(first: str, same: str, other: str) -> None:
    async def test(senders: Senders) -> None:
        await fill(senders, first)
        await refused(senders, same, large(1))
        await senders.send(other, large(1))

    run(test)


@pytest.mark.parametrize("last", [END, LEFT], ids=["end", "disconnect"])
def test_the_bytes_are_released_with_the_last_message(last: Message) -> None:
    async def test(senders: Senders) -> None:
        await fill(senders, "10.0.0.1")
        await senders.go_on(0, last)
        await senders.send("10.0.0.1", large(LARGEST - FREE_BYTES))
        await refused(senders, "10.0.0.1", large(1))
        await senders.go_on(0, LEFT)  # a reader that waits for it gets it, however full it is

    run(test)


def test_the_bytes_are_released_when_the_reader_gives_up() -> None:
    async def test(senders: Senders) -> None:
        await fill(senders, "10.0.0.1")
        senders.close(0)
        await senders.send("10.0.0.1", large(LARGEST - FREE_BYTES))

    run(test)


def test_a_refused_body_holds_nothing() -> None:
    async def test(senders: Senders) -> None:
        await fill(senders, "10.0.0.1")
        for _ in range(10):
            await refused(senders, "10.0.0.1", large(LARGEST))
        senders.close(0)
        await senders.send("10.0.0.1", large(LARGEST - FREE_BYTES))

    run(test)


@pytest.mark.parametrize("largest", [1, LARGEST, 2 * TOTAL_BYTES])
def test_one_body_of_any_size_passes_alone(largest: int) -> None:
    async def test(senders: Senders) -> None:
        # one byte more: the reader answers with 413
        await senders.send("10.0.0.1", part(largest), part(1), END)

    run(test, largest)


@pytest.mark.parametrize("full_by", [PAGE, "/v1/completions"])
@pytest.mark.parametrize("path", [PAGE, "/v1/completions", "/mcp"])
def test_page_and_api_share_the_limit(
    path: str, full_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TOTAL_BYTES", "SHARE_BYTES", "FREE_BYTES"):
        monkeypatch.setattr(unfinished, name, 0)
    site = build_site(max_body_bytes=1000)  # which is now the limit of all
    body = b" " * 900

    async def send(client: httpx.AsyncClient, path: str, *waits: asyncio.Event) -> httpx.Response:
        async def content() -> AsyncIterator[bytes]:
            yield body
            for event in waits[:1]:  # the application asks for more: it has counted the body
                event.set()
            for event in waits[1:]:
                await event.wait()

        return await client.post(path, content=content(), headers=JSON)

    async def go() -> None:
        transport = httpx.ASGITransport(site.application)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost:7860", timeout=None
        ) as client:
            is_full, may_end = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(send(client, full_by, is_full, may_end))
            await is_full.wait()
            answer = await send(client, path)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
            assert unfinished.SENTENCE in answer.text
            may_end.set()
            assert (await first).status_code == 400  # blanks are not JSON
            assert (await send(client, path)).status_code in (400, 406)

    asyncio.run(go())


@pytest.mark.parametrize("path", [PAGE, "/v1/completions", "/mcp"])
def test_a_body_of_unknown_length_that_is_too_large_gets_413(path: str) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b" " * 900
        yield b" " * 900

    site = build_site(max_body_bytes=1000)
    assert site.ask("POST", path, content=content(), headers=JSON).status_code == 413
