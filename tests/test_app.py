"""The address that the program listens on, and settings that end it before it serves."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import app
from app import _listen
from tests.processes import ROOT


def test_small_answers_are_sent_at_once() -> None:
    """An answer's body must not wait until its head has been acknowledged."""
    listener = _listen("127.0.0.1", 0)
    assert isinstance(listener, socket.socket)

    async def connect() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        server = await asyncio.start_server(look, sock=listener)
        async with server:
            _, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                return await accepted
            finally:
                writer.close()

    assert asyncio.run(connect()) != 0


def test_an_address_of_another_machine_is_reported_in_a_sentence() -> None:
    message = _listen("192.0.2.1", 0)  # reserved for documentation: no machine has it
    assert isinstance(message, str)
    assert message.startswith("Cannot listen on 192.0.2.1:0: ")


@pytest.mark.parametrize("name", ["no such name", "x" * 70, "\u2024"])
def test_a_name_that_is_no_address_is_reported_with_what_to_do(name: str) -> None:
    message = _listen(name, 0)
    assert isinstance(message, str)
    assert message.startswith(f"Cannot listen on {name}: ")
    assert "Set --server-name to an address of this machine" in message


def test_a_port_in_use_is_reported_with_what_to_do() -> None:
    first = _listen("127.0.0.1", 0)
    assert isinstance(first, socket.socket)
    first.listen()
    with first:
        message = _listen("127.0.0.1", first.getsockname()[1])
    assert isinstance(message, str)
    assert "--server-port" in message


def test_a_second_program_that_starts_at_the_same_moment_gets_a_message_too() -> None:
    """The first one has not begun to serve: it only has the socket."""
    first = _listen("127.0.0.1", 0)
    assert isinstance(first, socket.socket)
    with first:
        message = _listen("127.0.0.1", first.getsockname()[1])
    assert isinstance(message, str)
    assert "is in use by another program" in message


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--engines", "2"], "pip install -r requirements-fleet.txt"),
        (["--ray-address", "auto"], "pip install -r requirements-fleet.txt"),
        (["--backend", "openai"], "http://localhost:8000/v1"),
    ],
)
def test_an_unusable_backend_ends_the_program_with_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    said: str,
) -> None:
    """Ray is looked for, and not found even where it is installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "ray" else find(name, *more),
    )
    monkeypatch.setattr(app, "raise_on_stop_signals", lambda: None)
    monkeypatch.setattr(app, "_listen", lambda name, port: None)
    monkeypatch.setattr(sys, "argv", ["app.py", *flags])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("flags", [["--server-name", "192.0.2.1"], ["--precision", "float12"]])
def test_the_exit_code_is_2_where_the_sentence_cannot_be_written(flags: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run([sys.executable, "app.py", *flags], cwd=ROOT, stderr=full, timeout=240)
    assert ran.returncode == 2
