"""What the server offers to programs through Gradio: `/generate`, `/complete`, `/tokenize`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr
from gradio.events import api

from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    PromptScored,
    Started,
    StreamEvent,
    TokenEvent,
)
from gptj_demo.sampling import CONTROLS, Control, InvalidControl, SamplingParams, make_params
from gptj_demo.ui.generation import (
    batches,
    describe_event,
    describe_finished,
    describe_score,
    describe_start,
    finished_of,
    text_of,
)
from gptj_demo.worker import RequestRefused, Worker


def build_api(worker: Worker) -> None:
    """Add the named functions to the present Blocks."""
    for function in (_generate(worker), _complete(worker), _tokenize(worker)):
        api(function, api_name=function.__name__, concurrency_limit=None)


def address_of(caller: gr.Request) -> str:
    """Whose turn a program's requests take: session names are free to be made up."""
    client = caller.client
    return f"address {client.host if client else None}"


def _plain(control: Control) -> Any:
    """The default of a list as JSON has it."""
    return {} if control.kind == "biases" else list(control.default)


def _with_controls(function: Callable[..., Any], returns: Any, help: str) -> Callable[..., Any]:
    """Give a function of `*values` its signature: `prompt` and the table's controls.

    Before these Gradio puts the request that it came with.
    """
    types: dict[str, Any] = {"caller": gr.Request, "prompt": str}
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
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        parameters, return_annotation=returns
    )
    function.__annotations__ = {**types, "return": returns}
    function.__doc__ = f"{help}\n\n" + (
        "\n".join(f"{control.name}: {control.help} {control.definition}" for control in CONTROLS)
    )
    return function


async def _events_for(
    worker: Worker, values: tuple[Any, ...]
) -> AsyncGenerator[tuple[SamplingParams, list[StreamEvent]], None]:
    """The batches of a request of the API; what is wrong with it is a `gr.Error`."""
    caller, prompt, *rest = values
    controls = dict(zip((control.name for control in CONTROLS), rest, strict=True))
    try:
        if not isinstance(prompt, str):
            raise gr.Error("prompt must be a string.", print_exception=False)
        params = make_params(controls)
        visitor = address_of(caller)
        async with aclosing(worker.stream(GenerationRequest(prompt, params, visitor))) as stream:
            async for events in batches(worker, stream):
                yield params, events
    except (InvalidControl, RequestRefused) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _generate(worker: Worker) -> Callable[..., AsyncIterator[str]]:
    async def generate(*values: Any) -> AsyncIterator[str]:
        text = ""
        async with aclosing(_events_for(worker, values)) as told:
            async for _, events in told:
                text += text_of(events)
                finished = finished_of(events)
                if finished is not None and finished.reason == "error":
                    raise gr.Error(finished.message, print_exception=False)
                yield text

    return _with_controls(
        generate,
        str,
        "Continue a text. Each update is the whole continuation so far, the first one where there "
        "are several; /complete tells all.",
    )


def _complete(worker: Worker) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    async def complete(*values: Any) -> AsyncIterator[dict[str, Any]]:
        answer: dict[str, Any] = {"completions": [], "prompt": None}
        async with aclosing(_events_for(worker, values)) as told:
            async for params, events in told:
                _add_to(answer, worker, params, events)
                yield copy.deepcopy(answer)

    return _with_controls(
        complete,
        dict[str, Any],
        "Continue a text, with all that is known of it: the completions, each with its text, why "
        "it ended, its seed, and the probabilities of its tokens where logprobs asks for them; the "
        "prompt's score where echo does. Each update is the whole answer so far.",
    )


def _add_to(
    answer: dict[str, Any], worker: Worker, params: SamplingParams, events: list[StreamEvent]
) -> None:
    """Add a batch of events to the answer of `/complete`."""
    completions = answer["completions"]
    if not completions:
        completions += [_empty_completion(index, params) for index in range(params.n)]
    for event in events:
        match event:
            case Started():
                answer |= describe_start(worker, event, params)
            case PromptScored():
                answer["prompt"] = describe_score(worker, event)
            case Drafting():
                answer["drafted_tokens"] = event.tokens
            case TokenEvent():
                completion = completions[event.index]
                completion["text"] += event.text
                completion["filtered_away"] += event.filtered_away
                if completion["tokens"] is not None:
                    completion["tokens"].append(describe_event(worker, event))
            case Finished():
                completion = completions[event.index]
                completion["text"] += event.text
                completion |= {"finish_reason": event.reason, **describe_finished(event)}


def _empty_completion(index: int, params: SamplingParams) -> dict[str, Any]:
    return {
        "index": index,
        "text": "",
        "finish_reason": None,
        "filtered_away": 0,
        "tokens": None if params.logprobs is None else [],
    }


def _tokenize(worker: Worker) -> Callable[..., Any]:
    async def tokenize(text: str) -> list[dict[str, Any]]:
        """The tokens of a text: id, text, and its place in the text's UTF-8 bytes.

        Of a token that is a part of a character the text shows the bytes, such as \\xe2\\x80.
        """
        try:
            tokens = await worker.tokenize(text)
        except RequestRefused as refusal:
            raise gr.Error(str(refusal), print_exception=False) from None
        return [token._asdict() for token in tokens]

    return tokenize
