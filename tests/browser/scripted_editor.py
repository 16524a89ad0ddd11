"""Program: serves the editor, results and branches with scripted answers, without a model.

`python -m tests.browser.scripted_editor PORT FOLDER`: each request is answered with the batches of
records in FOLDER/batches.json, and noted as a line of FOLDER/asked.jsonl. A request whose script
has no end goes on: as the real server does, this one sends empty lines until it is stopped, unless
FOLDER/silent exists. The score of a text is FOLDER/score.json; with "waits" in it, the answer comes
once the request is stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from gptj_demo.client.pacing import PAGE
from gptj_demo.texts import message
from gptj_demo.ui.assets import serve_assets
from gptj_demo.ui.branches import Branches
from gptj_demo.ui.editor import Editor
from gptj_demo.ui.page import page_options
from gptj_demo.ui.results import Results
from tests.browser.records import ended

PORT, FOLDER = int(sys.argv[1]), Path(sys.argv[2])
stopped: set[str] = set()


def is_end(record: dict[str, Any]) -> bool:
    """Whether this record ends the request."""
    return record["event"] == "refused" or bool(record["event"] == "finished" and record["last"])


async def answer(event: gr.EventData) -> AsyncIterator[str]:
    with (FOLDER / "asked.jsonl").open("a") as asked:
        asked.write(json.dumps(event._data) + "\n")
    log = json.dumps({"event": "begin", "id": event.id}) + "\n"
    batches = json.loads((FOLDER / "batches.json").read_text())
    for batch in batches:
        log += "".join(json.dumps(record) + "\n" for record in batch)
        yield log
        await asyncio.sleep(0.01)
    if (FOLDER / "silent").exists() or any(is_end(record) for batch in batches for record in batch):
        return
    while event.id not in stopped:
        await asyncio.sleep(PAGE.sign_of_life)
        log += "\n"
        yield log
    end = ended(reason="cancelled", code="end.cancelled", message="Stopped.")
    yield log + json.dumps(end) + "\n"


async def count_tokens(text: str) -> dict[str, Any]:
    hint = message("status.refused", why="A <b>hint</b>.").described()
    return {"tokens": len(text), "hint": hint if text.endswith(" ") else None}


async def score(asked: dict[str, Any]) -> dict[str, Any]:
    found = dict(json.loads((FOLDER / "score.json").read_text()))
    while "waits" in found and asked["id"] not in stopped:
        await asyncio.sleep(PAGE.sign_of_life)
    return found


async def stop(request: str) -> bool:
    stopped.add(request)
    return True


with gr.Blocks(analytics_enabled=False) as page:
    gr.Button("Done", elem_id="close-controls", visible="hidden")
    with gr.Column(elem_id="view-write", elem_classes="view"):
        editor = Editor(server_functions=[count_tokens, stop, score])
        editor.generate(
            answer,
            None,
            editor,
            concurrency_limit=None,
            show_progress="hidden",
            trigger_mode="multiple",  # else Gradio drops a request that comes as another ends
        )
        Results()
    with gr.Column(elem_id="view-branches", elem_classes="view"):
        Branches()
page.queue()
app = FastAPI()
serve_assets(app)
gr.mount_gradio_app(app, page, path="/", **page_options())
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
