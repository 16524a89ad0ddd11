"""Calls of the page's own functions, as the page in a browser makes them."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

GENERATE = "editor_generate"


@dataclass(frozen=True)
class Page:
    """What a browser knows after it has loaded the page."""

    fn_index: int
    inputs: list[Any]  # the controls' values
    editor: int  # the editor's component id


async def load_page(client: httpx.AsyncClient) -> Page:
    """Read the page's configuration."""
    config = (await client.get("/config")).json()
    components = {one["id"]: one for one in config["components"]}
    function = next(one for one in config["dependencies"] if one["api_name"] == GENERATE)
    inputs = [components[i]["props"].get("value") for i in function["inputs"]]
    editor = next(i for i, one in components.items() if one["props"].get("elem_id") == "editor")
    return Page(function["id"], inputs, editor)


def new_session() -> str:
    """A session's name, as a browser chooses it."""
    return secrets.token_hex(6)


async def press_generate(
    client: httpx.AsyncClient,
    page: Page,
    session: str,
    prompt: str,
    headers: dict[str, str] | None = None,
    **controls: Any,
) -> bool:
    """Begin a generation; False if the page refuses to take it."""
    body = {
        "data": page.inputs,
        "event_data": {"prompt": prompt, "id": secrets.token_hex(4), "controls": controls},
        "fn_index": page.fn_index,
        "trigger_id": page.editor,
        "session_hash": session,
    }
    answer = await client.post("/gradio_api/queue/join", json=body, headers=headers)
    return answer.status_code == 200


async def read_log(
    client: httpx.AsyncClient, session: str, headers: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """The raw messages of a session as they arrive, each a JSON text."""
    path = f"/gradio_api/queue/data?session_hash={session}"
    async with client.stream("GET", path, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield line[6:]


async def count_tokens(
    client: httpx.AsyncClient,
    page: Page,
    session: str,
    text: str,
    headers: dict[str, str] | None = None,
) -> int:
    """The status of a call that counts the text's tokens."""
    body = {
        "data": text,
        "component_id": page.editor,
        "fn_name": "count_tokens",
        "session_hash": session,
    }
    answer = await client.post("/gradio_api/component_server/", json=body, headers=headers)
    return answer.status_code


def has_words(message: str) -> bool:
    """Whether a message carries generated text."""
    return '\\"event\\":\\"text\\"' in message


def is_last(message: str) -> bool:
    """Whether a message ends a call."""
    return json.loads(message)["msg"] in ("process_completed", "close_stream", "unexpected_error")
