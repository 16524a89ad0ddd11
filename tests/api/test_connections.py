"""Slow senders, slow readers and idle connections, at a server in this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gptj_demo.api import connections
from gptj_demo.api.connections import Connections, guarded
from tests.waiting import PATIENCE, eventually_async

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"


class Served:
    """A server that answers with as many blocks of 64 KiB as the request's path says."""

    def __init__(self, most: int) -> None:
        self.connections = Connections(most)
        self.left = asyncio.Event()  # set when a caller has left before the end
        self.port = 0

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watching = asyncio.ensure_future(receive())
        for _ in range(int(scope["path"][1:] or 0)):
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
            if watching.done():
                self.left.set()
                return
        watching.cancel()
        await send({"type": "http.response.body", "body": b"end", "more_body": False})

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def serving(most: int = 1000) -> AsyncIterator[Served]:
    served = Served(most)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served.port = listener.getsockname()[1]
        config = uvicorn.Config(
            served.application,
            http=guarded(served.connections),
            interface="asgi3",
            lifespan="off",
            log_level="error",
            timeout_graceful_shutdown=0,
        )
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server._serve([listener]))
        await eventually_async(lambda: server.started)
        try:
            yield served
        finally:
            server.should_exit = True
            await running


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(scenario(), PATIENCE)

    asyncio.run(whole())


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What arrives until the server closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(2**16):
            data += more
    return data


@pytest.mark.parametrize("sent", [b"", HEAD[:10], HEAD + HEAD[:10]], ids=["none", "part", "second"])
def test_a_connection_is_closed_if_its_request_head_does_not_arrive_in_time(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)

    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open()
            writer.write(sent)
            answer = await closed(reader)
            assert answer.count(b"200 OK") == (1 if sent.startswith(HEAD) else 0)
            await eventually_async(lambda: not len(served.connections))
            writer.close()

    run(scenario)


def test_a_request_head_sent_byte_by_byte_does_not_extend_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)

    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open()
            with contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"x")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.05)
            await eventually_async(lambda: not len(served.connections))
            writer.close()

    run(scenario)


def test_a_request_is_ended_if_its_body_does_not_arrive_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)

    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open()
            writer.write(POST + b"12345")
            assert await closed(reader) == b""
            await served.left.wait()
            writer.close()

    run(scenario)


def test_requests_in_time_are_answered_over_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.2)

    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open()
            for _ in range(3):
                writer.write(POST + b"1234567890")
                assert b"end" in await reader.readuntil(b"0\r\n\r\n")
                silent, other = await served.open()
                assert await closed(silent) == b""  # so the time is over
                other.close()
            writer.close()

    run(scenario)


def test_a_client_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)

    async def scenario() -> None:
        async with serving() as served:
            with socket.create_connection(("127.0.0.1", served.port)) as caller:
                caller.setblocking(False)
                request = HEAD.replace(b"GET /", b"GET /1000")
                await asyncio.get_running_loop().sock_sendall(caller, request)
                await served.left.wait()
                await eventually_async(lambda: not len(served.connections))

    run(scenario)


def test_a_client_that_reads_everything_gets_the_whole_response() -> None:
    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await served.open()
            writer.write(HEAD.replace(b"GET /", b"GET /100"))
            size = 0
            while not (data := await reader.read(2**16)).endswith(b"end\r\n0\r\n\r\n"):
                size += len(data)
            assert size > 100 * 2**16 - len(data)
            writer.close()

    run(scenario)


def test_idle_connections_are_closed_when_new_connections_need_their_places() -> None:
    async def scenario() -> None:
        async with serving(most=20) as served:
            idle = [await served.open() for _ in range(60)]
            await eventually_async(lambda: len(served.connections) == 20)
            reader, writer = await served.open()
            writer.write(HEAD)
            assert b"end" in await reader.readuntil(b"0\r\n\r\n")
            assert len(served.connections) <= 20
            assert await closed(idle[0][0]) == b""
            for _, one in [*idle, (reader, writer)]:
                one.close()

    run(scenario)


def test_the_address_with_the_most_idle_connections_loses_one() -> None:
    class Fake:
        def __init__(self, phase: str) -> None:
            self.phase = phase
            self.transport = self
            self.is_aborted = False

        def abort(self) -> None:
            self.is_aborted = True

    known = Connections(5)
    person, busy = Fake("head"), Fake("answer")
    caller = [Fake("head") for _ in range(3)]
    for one, address in [(person, "a"), (busy, "b"), *((one, "b") for one in caller)]:
        known.add(one, address)  # type: ignore[arg-type]
    another = Fake("head")
    known.add(another, "c")  # type: ignore[arg-type]
    assert [one.is_aborted for one in (person, busy, *caller, another)] == [
        False, False, True, False, False, False,
    ]  # fmt: skip
    full = Connections(1)
    first, second = Fake("answer"), Fake("body")
    full.add(first, "a")  # type: ignore[arg-type]
    full.add(second, "b")  # type: ignore[arg-type]
    assert (first.is_aborted, second.is_aborted) == (False, True)
