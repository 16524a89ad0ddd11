"""What Gradio's page builds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
import pytest
from gradio.events import api

from gptj_demo.ui.blocks import PageBlocks

FILE = {"path": "/etc/hosts", "url": "/x", "meta": {"_type": "gradio.FileData"}}


async def grow(text: str) -> AsyncIterator[dict[str, Any]]:
    """Return what Gradio would take for a file."""
    for size in (1, 2):
        yield {"text": text * size, "files": [FILE]}


def double(text: str, times: int = 2) -> str:
    """Repeat a text."""
    return text * times


@pytest.fixture(scope="module")
def page() -> PageBlocks:
    async def build() -> PageBlocks:
        page = PageBlocks(analytics_enabled=False)
        with page:
            with gr.Column():
                gr.Textbox(elem_id="seen")
                api(double, api_name="inside")
            api(double, api_name="double")
            api(grow, api_name="grow")
        return page

    return asyncio.run(
        build()
    )  # Gradio starts a loop of its own where none runs, and leaves it open


def laid_out(layout: Any) -> set[int]:
    return {layout["id"]}.union(*(laid_out(child) for child in layout.get("children", [])))


def test_the_arguments_of_functions_without_a_view_are_not_built(page: PageBlocks) -> None:
    config = page.get_config_file()
    components = {one["id"]: one for one in config["components"]}
    built = laid_out(config["layout"])
    arguments = {number for number, one in components.items() if one["type"] == "api"}
    assert len(arguments) == 8
    assert not arguments & built
    # Gradio's page shows "Loading..." until all visible components are built
    waited = {number for number, one in components.items() if one["props"].get("visible", True)}
    assert waited <= built
    assert {components[number]["type"] for number in waited} == {"column", "form", "textbox"}


def test_api_arguments_are_documented(page: PageBlocks) -> None:
    described = page.get_api_info()["named_endpoints"]
    assert {
        name: [one["parameter_name"] for one in described[name]["parameters"]] for name in described
    } == {
        "/inside": ["text", "times"],
        "/double": ["text", "times"],
        "/grow": ["text"],
    }


def test_the_results_of_functions_are_not_searched_for_files(page: PageBlocks) -> None:
    async def call() -> list[Any]:
        updates: list[Any] = []
        grows = next(fn for fn in page.fns.values() if fn.api_name == "grow")
        iterator = None
        while True:
            given = {"iterator": iterator, "root_path": "http://playground", "explicit_call": True}
            output = await page.process_api(grows, ["a"], **given)
            updates += output["data"]
            iterator = output["iterator"]
            if not output["is_generating"]:
                return updates

    first, second, end = asyncio.run(call())
    assert first == {"text": "a", "files": [FILE]}
    assert second == {"text": "aa", "files": [FILE]}
    assert end is None
