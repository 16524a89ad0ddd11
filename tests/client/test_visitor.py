"""The names of visitors."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from gptj_demo.client.visitor import address_of, by_address, by_key, by_session
from gptj_demo.protocol import Visitor
from tests.processes import ROOT

NAMING = re.compile(r"session_hash|client\.host|f\"(page|address|key) ")


def request(host: str | None) -> Request:
    return Request({"type": "http", "headers": [], "client": host and (host, 1)})


def test_a_person_is_a_session_and_a_program_an_address() -> None:
    browser = gr.Request(request("10.0.0.1"), session_hash="abc")
    assert by_session(browser) == Visitor("page abc", "10.0.0.1")
    assert by_address(browser) == Visitor("address 10.0.0.1", "10.0.0.1")


def test_the_quota_token_is_kept_in_the_visitor_but_not_in_its_name() -> None:
    headers = [(b"x-ip-token", b"a.b.c")]
    asked = Request({"type": "http", "headers": headers, "client": ("10.0.0.1", 1)})
    browser = gr.Request(asked, session_hash="abc")
    for visitor in (by_session(browser), by_address(asked), by_key(b"key", asked)):
        assert visitor.gpu_quota == "a.b.c"
        assert "a.b.c" not in visitor.name


def test_what_a_page_asks_without_a_session_counts_for_its_address() -> None:
    for asked in (request("::1"), gr.Request(request("::1"))):
        assert by_session(asked) == by_address(asked) == Visitor("address ::1", "::1")
    assert by_address(request(None)) == Visitor("address unknown", "unknown")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_the_network_of_an_ipv6_address_is_one_caller(host: str, address: str) -> None:
    assert address_of(request(host)) == address


def test_the_name_of_a_caller_does_not_contain_its_key() -> None:
    asked = request("10.0.0.1")
    name = by_key(b"secret-key", asked).name
    assert name == by_key(b"secret-key", request("10.0.0.2")).name
    assert name != by_key(b"secret-kez", asked).name
    assert "secret" not in name
    assert by_key(b"secret-key", asked).address == "10.0.0.1"


def test_only_the_visitor_module_names_visitors() -> None:
    sources: Any = (ROOT / "gptj_demo").rglob("*.py")
    naming = {path.name for path in sources if NAMING.search(path.read_text("utf-8"))}
    # sessions.py bounds what Gradio keeps of a session, calls.py checks the form of its name
    assert naming == {"visitor.py", "sessions.py", "calls.py"}
