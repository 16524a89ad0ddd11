"""The code that the page shows is written beside the event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.ui import share

from .conftest import WholeSite


def write_code(site: WholeSite, prompt: str) -> dict[str, Any]:
    """The answer of the server function of the dialog."""
    number = next(n for n, block in site.page.blocks.items() if block.elem_id == "share")
    body = {
        "component_id": number,
        "fn_name": "write_code",
        "session_hash": "abc",
        "data": {"prompt": prompt, "controls": {}, "address": "http://localhost"},
    }
    return dict(site.ask("POST", "/gradio_api/component_server/", json=body).json())


def test_code_is_written_in_a_thread(site: WholeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    make_snippets = share.make_snippets

    def noted(*given: Any) -> Any:
        threads.append(threading.get_ident())
        return make_snippets(*given)

    monkeypatch.setattr(share, "make_snippets", noted)
    snippets = write_code(site, "\u200b" * 1000)["snippets"]
    assert all("\\u200b" in one["code"] for one in snippets)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_a_prompt_that_is_too_long_is_refused_before_the_model_is_loaded(site: WholeSite) -> None:
    assert "snippets" in write_code(site, "x" * MAX_PROMPT_CHARACTERS)
    refused = write_code(site, "x" * (MAX_PROMPT_CHARACTERS + 1))
    assert "snippets" not in refused
    assert refused["code"] == "refused.loading"
