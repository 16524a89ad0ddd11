"""The Write tab: the editor, its results, the controls beside it, and beginnings to try below."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.memory import Memory, remember
from gptj_demo.client.visitor import by_session
from gptj_demo.control_values import InvalidControl, with_values
from gptj_demo.protocol import Finished, GenerationRequest, PromptScored
from gptj_demo.sampling import CONTROLS, SamplingParams
from gptj_demo.tokenization import prompt_hint
from gptj_demo.ui.beginnings import Beginnings
from gptj_demo.ui.component import read_asked
from gptj_demo.ui.controls import build_controls
from gptj_demo.ui.editor import Editor
from gptj_demo.ui.fill_in import FillIn
from gptj_demo.ui.generation import BROKEN, placed, read_controls, record, records
from gptj_demo.ui.results import Results
from gptj_demo.ui.stops import Stops
from gptj_demo.ui.tokens import pack_score


async def _with_memory(
    worker: Worker, asked: Mapping[str, Any], params: SamplingParams
) -> tuple[str | tuple[int, ...], SamplingParams, int]:
    """The prompt of a request with its memory, and how many tokens the window leaves out."""
    prompt, memory = str(asked.get("prompt", "")), Memory.read(asked.get("memory"))
    if memory.is_empty:
        return prompt, params, 0
    slides = params.truncate == "left"
    ready = worker.require_ready()
    kept = await remember(memory, prompt, params, ready, leaves_out=slides)
    # the prompt's score would contain the memory's tokens, which are not in the text
    params = with_values(params, {"truncate": "error", "echo": False})
    return kept.token_ids, params, kept.dropped


def build_write(worker: Worker) -> None:
    """Lay out the tab in the present Blocks and connect it to the worker."""
    stops = Stops()

    async def count_tokens(text: Any) -> dict[str, Any]:
        text = str(text)
        try:
            hint = prompt_hint(text)
            described = None if hint is None else hint.described()
            return {"tokens": await worker.count_tokens(text), "hint": described}
        except RequestRefused as refusal:
            return {"tokens": None, **refusal.message.described()}

    async def unread(asked: Any) -> dict[str, int]:
        """How many tokens `truncate` drops from a text, and where they end (UTF-16 units)."""
        try:
            text, length = str(asked["text"]), int(asked["max_new_tokens"])
            params = SamplingParams(max_new_tokens=length, echo=True)
            memory, ready = Memory.read(asked.get("memory")), worker.require_ready()
            kept = await remember(memory, text, params, ready, leaves_out=True)
            tokens, end = kept.dropped, kept.end
        except (RequestRefused, LookupError, TypeError, ValueError, OverflowError):
            return {"tokens": 0, "end": 0}
        return {"tokens": tokens, "end": len(text[:end].encode("utf-16-le")) // 2}

    async def stop(request_id: Any) -> bool:
        return stops.stop(request_id)

    async def score(asked: Any, browser: gr.Request) -> dict[str, Any]:
        asked, request_id = read_asked(asked)
        controls = {
            "max_new_tokens": 0,
            "echo": True,
            "truncate": "left",
            "logprobs": asked.get("logprobs"),
        }
        try:
            params = read_controls(controls)
            request = GenerationRequest(str(asked.get("text", "")), params, by_session(browser))
            async with aclosing(worker.stream(request)) as stream:
                with stops.stopped_by(request_id, stream.cancel):
                    async for event in stream:
                        if isinstance(event, PromptScored):
                            vocabulary = worker.require_ready().vocabulary
                            return pack_score(vocabulary, event, placed(worker, stream))
                        if isinstance(event, Finished):
                            return event.message.described()
            return BROKEN.described()
        except (InvalidControl, RequestRefused) as error:
            return error.message.described()

    async def generate(
        asked: Mapping[str, Any], request_id: str, browser: gr.Request, *values: Any
    ) -> AsyncGenerator[str, None]:
        controls = dict(zip((control.name for control in CONTROLS), values, strict=True))
        own = asked.get("controls")  # this request's overrides of the panel
        if isinstance(own, dict):
            controls |= {name: value for name, value in own.items() if name in controls}
        if asked.get("retry"):
            controls["seed"] = None
        params = read_controls(controls)
        visitor = by_session(browser)
        prompt, params, dropped = await _with_memory(worker, asked, params)
        if dropped:
            yield record("left_out", tokens=dropped)
        if "fill" in asked:
            filling = FillIn(worker, prompt, str(asked["fill"]), params, visitor)
            with stops.stopped_by(request_id, filling.cancel):
                async with aclosing(filling.records()) as updates:
                    async for lines in updates:
                        yield lines
            return
        request = GenerationRequest(prompt, params, visitor)
        async with aclosing(worker.stream(request)) as stream:
            with stops.stopped_by(request_id, stream.cancel):
                async for lines in records(worker, stream, params):
                    yield lines

    with gr.Row(elem_id="write", equal_height=False):
        with gr.Column(scale=1, min_width=0, elem_id="writing"):
            editor = Editor(elem_id="editor", server_functions=[count_tokens, unread, stop, score])
            Results(elem_id="results")
            Beginnings(elem_id="examples")
        with gr.Column(scale=0, min_width=0, elem_id="controls"):
            components = build_controls()

    editor.write_log(editor.generate, generate, *components.values())

    # the values come from Gradio: the page's state may not have the newest yet
    in_order = json.dumps(list(components))
    editor.use_controls(
        None,
        list(components.values()),
        list(components.values()),
        js=f"(...values) => gptj.withWanted({in_order}, values)",
        show_progress="hidden",
        trigger_mode="multiple",
    )
