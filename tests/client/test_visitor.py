"""The names of visitors."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
from starlette.requests import Request

from gptj_demo.client.visitor import by_address, by_key, by_session
from tests.processes import ROOT

NAMING = re.compile(r"session_hash|client\.host|f\"(page|address|key) ")


def request(host: str | None) -> Request:
    return Request({"type": "http", "headers": [], "client": host and (host, 1)})


def test_a_person_is_a_session_and_a_program_an_address() -> None:
    browser = gr.Request(request("10.0.0.1"), session_hash="abc")
    assert by_session(browser) == "page abc"
    assert by_address(browser) == "address 10.0.0.1"


def test_what_a_page_asks_without_a_session_counts_for_its_address() -> None:
    for asked in (request("::1"), gr.Request(request("::1"))):
        assert by_session(asked) == by_address(asked) == "address ::1"
    assert by_address(request(None)) == "address None"


def test_the_name_of_a_key_does_not_hold_it() -> None:
    name = by_key(b"secret-key")
    assert name == by_key(b"secret-key") != by_key(b"secret-kez")
    assert "secret" not in name


def test_only_the_visitor_module_names_visitors() -> None:
    sources: Any = (ROOT / "gptj_demo").rglob("*.py")
    naming = {path.name for path in sources if NAMING.search(path.read_text("utf-8"))}
    assert naming == {"visitor.py"}
