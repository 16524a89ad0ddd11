"""The code that the page shows is written beside the event loop."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.api import keys
from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.ui import share

from .conftest import WholeSite, build_site


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


def test_code_and_description_follow_the_file_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOK_SECONDS", 0.0)
    file = tmp_path / "keys"
    file.write_text("metrics:watcher\n")  # callers of the API need none
    site = build_site(api_keys_file=file)

    def mentions_key() -> list[bool]:
        code = {one["name"]: one["code"] for one in write_code(site, "P")["snippets"]}
        description = site.ask("GET", "/openapi.json").json()
        return [
            "YOUR KEY" in code["openai"],
            "YOUR KEY" in code["curl"],
            "security" in description,
            "securitySchemes" in description["components"],
        ]

    assert mentions_key() == [False] * 4
    file.write_text("metrics:watcher\nthe-caller\n")
    assert mentions_key() == [True] * 4
    file.write_text("# none\n")  # callers still need a key
    assert mentions_key() == [True] * 4
