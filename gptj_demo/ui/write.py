"""The Write tab: the editor, its results, the controls beside it, and beginnings to try below."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import gradio as gr

from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    PromptScored,
    Started,
    TokenEvent,
    Waiting,
)
from gptj_demo.sampling import CONTROLS, InvalidControl, SamplingParams
from gptj_demo.tokenization import prompt_hint
from gptj_demo.ui.controls import build_controls
from gptj_demo.ui.editor import Editor
from gptj_demo.ui.example_prompts import ExamplePrompts
from gptj_demo.ui.generation import (
    Rate,
    batches,
    describe_event,
    describe_finished,
    describe_score,
    describe_start,
    finished_of,
    read_controls,
    text_of,
)
from gptj_demo.ui.results import Results
from gptj_demo.worker import RequestRefused, Stream, Worker

logger = logging.getLogger(__name__)

MAX_ID_CHARACTERS = 64
BROKEN = "Something went wrong in the playground itself. Your text is kept; try again."


def build_write(worker: Worker) -> None:
    """Lay out the tab in the present Blocks and connect it to the worker."""
    open_streams: dict[str, Stream] = {}  # by the id that the visitor's page made up

    async def count_tokens(text: Any) -> dict[str, Any]:
        text = str(text)
        try:
            return {"tokens": await worker.count_tokens(text), "hint": prompt_hint(text)}
        except RequestRefused as refusal:
            return {"tokens": None, "message": str(refusal)}

    async def stop(request_id: Any) -> bool:
        stream = open_streams.get(str(request_id))
        if stream is not None:
            stream.cancel()
        return stream is not None

    async def generate(
        event: gr.EventData, browser: gr.Request, *values: Any
    ) -> AsyncIterator[str]:
        asked = event._data if isinstance(event._data, dict) else {}
        request_id = str(asked.get("id", ""))[:MAX_ID_CHARACTERS]
        controls = dict(zip((control.name for control in CONTROLS), values, strict=True))
        if asked.get("retry"):
            controls["seed"] = None
        log = _record("begin", id=request_id)
        try:
            params = read_controls(controls)
            visitor = f"page {browser.session_hash}"
            request = GenerationRequest(str(asked.get("prompt", "")), params, visitor)
            async with aclosing(worker.stream(request)) as stream:
                open_streams[request_id] = stream
                async for record in _records(worker, stream, params):
                    log += record
                    yield log
        except InvalidControl as error:
            yield log + _record("refused", kind="control", control=error.name, message=str(error))
        except RequestRefused as refusal:
            yield log + _record(
                "refused", kind=refusal.kind, control=refusal.control, message=str(refusal)
            )
        except Exception:
            logger.exception("a request of the page failed")
            yield log + _record("refused", kind="error", message=BROKEN)
        finally:
            open_streams.pop(request_id, None)

    with gr.Row(elem_id="write", equal_height=False):
        with gr.Column(scale=1, min_width=0, elem_id="writing"):
            editor = Editor(elem_id="editor", server_functions=[count_tokens, stop])
            Results(elem_id="results")
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
    editor.heal(None, None, components["token_healing"], js="() => true", show_progress="hidden")


async def _records(worker: Worker, stream: Stream, params: SamplingParams) -> AsyncIterator[str]:
    """The lines that each batch of events adds to the editor's log."""
    rate = Rate()
    written: Counter[int] = Counter()  # tokens of each completion
    alone: Counter[int] = Counter()  # those of them for which the controls had left no choice
    async for events in batches(worker, stream):
        lines = ""
        tokens: defaultdict[int, list[Any]] = defaultdict(list)
        news: dict[int, None] = {}  # completions that the batch says something of
        drafting = None
        for event in events:
            match event:
                case Waiting():
                    lines += _record("waiting", ahead=event.ahead)
                case Started():
                    lines += _record("started", **describe_start(worker, event, params))
                case PromptScored():
                    lines += _record("scored", **describe_score(worker, event))
                case Drafting():
                    drafting = event
                case TokenEvent():
                    news[event.index] = None
                    written[event.index] += 1
                    alone[event.index] += event.filtered_away
                    if event.logprobs is not None:
                        tokens[event.index].append(describe_event(worker, event))
                case Finished():
                    news[event.index] = None
        if drafting is not None:
            rate.add(drafting.tokens - rate.tokens)
            lines += _record("drafting", tokens=rate.tokens, rate=rate.per_second)
        if params.candidates == params.n:
            rate.add(written.total() - rate.tokens)
        for index in news:
            lines += _record(
                "text",
                index=index,
                text=text_of(events, index),
                tokens=written[index],
                total=rate.tokens,
                rate=rate.per_second,
            )
            if tokens[index]:
                lines += _record("tokens", index=index, tokens=tokens[index])
        ends = [finished for index in news if (finished := finished_of(events, index))]
        for finished in ends:
            lines += _record(
                "finished",
                index=finished.index,
                reason=finished.reason,
                **describe_finished(finished),
                filtered_away=alone[finished.index],
                last=stream.done and finished is ends[-1],
                total=rate.tokens,
                rate=rate.per_second,
            )
        yield lines or "\n"  # an empty line is a sign of life


def _record(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"
