"""The Write tab: the editor, the controls beside it, and beginnings to try below."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr
from gradio.events import api

from gptj_demo.protocol import GenerationRequest, Started, TokenEvent, Waiting
from gptj_demo.sampling import CONTROLS, Control, InvalidControl, SamplingParams, make_params
from gptj_demo.ui.controls import build_controls
from gptj_demo.ui.editor import Editor
from gptj_demo.ui.example_prompts import ExamplePrompts
from gptj_demo.ui.generation import Rate, batches, finished_of, read_controls, text_of
from gptj_demo.worker import RequestRefused, Stream, Worker

logger = logging.getLogger(__name__)

MAX_ID_CHARACTERS = 64
BROKEN = "Something went wrong in the playground itself. Your text is kept; try again."


def build_write(worker: Worker) -> None:
    """Lay out the tab in the present Blocks and connect it to the worker."""
    open_streams: dict[str, Stream] = {}  # by the id that the visitor's page made up

    async def count_tokens(text: Any) -> dict[str, Any]:
        try:
            return {"tokens": await worker.count_tokens(str(text))}
        except RequestRefused as refusal:
            return {"tokens": None, "message": str(refusal)}

    async def stop(request_id: Any) -> bool:
        stream = open_streams.get(str(request_id))
        if stream is not None:
            stream.cancel()
        return stream is not None

    async def generate(event: gr.EventData, *values: Any) -> AsyncIterator[str]:
        asked = event._data if isinstance(event._data, dict) else {}
        request_id = str(asked.get("id", ""))[:MAX_ID_CHARACTERS]
        controls = dict(zip((control.name for control in CONTROLS), values, strict=True))
        if asked.get("retry"):
            controls["seed"] = None
        log = _record("begin", id=request_id)
        try:
            request = GenerationRequest(str(asked.get("prompt", "")), read_controls(controls))
            async with aclosing(worker.stream(request)) as stream:
                open_streams[request_id] = stream
                async for record in _records(worker, stream):
                    log += record
                    yield log
        except InvalidControl as error:
            yield log + _record("refused", kind="control", control=error.name, message=str(error))
        except RequestRefused as refusal:
            yield log + _record("refused", kind=refusal.kind, message=str(refusal))
        except Exception:
            logger.exception("a request of the page failed")
            yield log + _record("refused", kind="error", message=BROKEN)
        finally:
            open_streams.pop(request_id, None)

    with gr.Row(elem_id="write", equal_height=False):
        with gr.Column(scale=1, min_width=0, elem_id="writing"):
            editor = Editor(elem_id="editor", server_functions=[count_tokens, stop])
            ExamplePrompts(elem_id="examples")
        with gr.Column(scale=0, min_width=0, elem_id="controls"):
            components = build_controls()

    editor.generate(
        generate,
        list(components.values()),
        editor,
        api_name="editor_generate",
        api_visibility="private",
        concurrency_limit=None,
        show_progress="hidden",
        trigger_mode="multiple",
    )

    def keep_seed(event: gr.EventData) -> str:
        return str(int(event.seed))

    editor.keep_seed(
        keep_seed,
        None,
        components["seed"],
        api_name="editor_keep_seed",
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    api(_generate_api(worker), api_name="generate", concurrency_limit=None)


async def _records(worker: Worker, stream: Stream) -> AsyncIterator[str]:
    """The lines that each batch of events adds to the editor's log."""
    rate = Rate()
    async for events in batches(worker, stream):
        lines = ""
        for event in events:
            if isinstance(event, Waiting):
                lines += _record("waiting", ahead=event.ahead)
            elif isinstance(event, Started):
                lines += _record("started", prompt_tokens=event.prompt_tokens)
        rate.add(sum(isinstance(event, TokenEvent) for event in events))
        text = text_of(events)
        if text or rate.tokens:
            lines += _record("text", text=text, tokens=rate.tokens, rate=rate.per_second)
        finished = finished_of(events)
        if finished is not None:
            lines += _record(
                "finished",
                reason=finished.reason,
                message=finished.message,
                prompt_tokens=finished.prompt_tokens,
                completion_tokens=finished.completion_tokens,
                seed=finished.seed,
                rate=rate.per_second,
            )
        yield lines or "\n"  # an empty line is a sign of life


def _record(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"


def _plain(control: Control) -> Any:
    """The default of a list as JSON has it."""
    return {} if control.kind == "biases" else list(control.default)


def _generate_api(worker: Worker) -> Callable[..., AsyncIterator[str]]:
    """The function behind `/generate`: its parameters are `prompt` and the table's controls."""

    async def generate(*values: Any) -> AsyncIterator[str]:
        prompt, *rest = values
        controls = dict(zip((control.name for control in CONTROLS), rest, strict=True))
        try:
            if not isinstance(prompt, str):
                raise gr.Error("prompt must be a string.", print_exception=False)
            request = GenerationRequest(prompt, make_params(controls))
            text = ""
            async with aclosing(worker.stream(request)) as stream:
                async for events in batches(worker, stream):
                    text += text_of(events)
                    finished = finished_of(events)
                    if finished is not None and finished.reason == "error":
                        raise gr.Error(finished.message, print_exception=False)
                    yield text
        except (InvalidControl, RequestRefused) as error:
            raise gr.Error(str(error), print_exception=False) from None

    types: dict[str, Any] = {"prompt": str}
    types |= {name: field.annotation for name, field in SamplingParams.model_fields.items()}
    lists = {"strings": list[str], "integers": list[int], "biases": dict[str, float]}
    types |= {c.name: lists[c.kind] for c in CONTROLS if c.is_list}
    defaults = {c.name: _plain(c) if c.is_list else c.default for c in CONTROLS}
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=annotation,
            default=defaults.get(name, inspect.Parameter.empty),
        )
        for name, annotation in types.items()
    ]
    generate.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=str
    )
    generate.__annotations__ = {**types, "return": str}
    generate.__doc__ = "Continue a text. Each update is the whole continuation so far.\n\n" + (
        "\n".join(f"{control.name}: {control.help} {control.definition}" for control in CONTROLS)
    )
    return generate
