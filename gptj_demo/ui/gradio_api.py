"""The functions that programs can call through Gradio's API.

`/generate` and `/complete` continue a prompt, `/alternatives` lists the next tokens, `/likely` the
most probable continuations, `/score`, `/compare_prompts` and `/attribute` score given texts,
`/tokenize` returns a text's tokens.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

import gradio as gr
from gradio.events import api

from gptj_demo.client import RequestRefused, Stream, Worker
from gptj_demo.client.likely import MAX_DEPTH, MAX_NODES
from gptj_demo.client.pacing import Repeats
from gptj_demo.client.visitor import by_address
from gptj_demo.control import Control
from gptj_demo.control_values import InvalidControl, make_params
from gptj_demo.protocol import (
    Drafting,
    Finished,
    GenerationRequest,
    Passage,
    PromptScored,
    Started,
    StreamEvent,
    TokenEvent,
)
from gptj_demo.sampling import CONTROLS, MAX_ALTERNATIVES, TREE_CONTROLS, SamplingParams
from gptj_demo.texts import message
from gptj_demo.ui.generation import (
    batches,
    describe_event,
    describe_finished,
    describe_score,
    describe_start,
    describe_token,
    finished_of,
    text_of,
)
from gptj_demo.ui.inputs import require_string
from gptj_demo.ui.likely import likely_tree
from gptj_demo.ui.scoring_api import (
    as_gradio_errors,
    attribute_function,
    check_alternatives,
    check_size,
    compare_prompts_function,
    score_function,
)

MAX_TOKENS = 50_000
"""Of the text of `/tokenize`: Gradio writes the answer on the event loop."""


def build_api(worker: Worker) -> None:
    """Add the named functions to the present Blocks."""
    for function in (
        _generate(worker),
        _complete(worker),
        _alternatives(worker),
        score_function(worker),
        compare_prompts_function(worker),
        attribute_function(worker),
        _likely(worker),
        _tokenize(worker),
    ):
        api(function, api_name=function.__name__, concurrency_limit=None)


def _plain(control: Control) -> Any:
    """The default of a list control as a JSON value."""
    return {} if control.kind == "biases" else list(control.default)


def _with_controls(
    function: Callable[..., Any],
    returns: Any,
    help: str,
    controls: Sequence[Control] = CONTROLS,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[..., Any]:
    """Give a function of `*values` its signature: `prompt`, `more` values and `controls`.

    Gradio passes its request as the first argument. `more` holds defaults.
    """
    fields = SamplingParams.model_fields
    types: dict[str, Any] = {"caller": gr.Request, "prompt": str}
    types |= {name: type(default) for name, default in more.items()}
    lists = {
        "strings": list[str],
        "integers": list[int],
        "biases": dict[str, float],
        "permutation": list[str],
    }
    types |= {c.name: lists[c.kind] if c.is_list else fields[c.name].annotation for c in controls}
    defaults = dict(more) | {c.name: _plain(c) if c.is_list else c.default for c in controls}
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
        "\n".join(f"{control.name}: {control.help} {control.definition}" for control in controls)
    )
    return function


async def _events_for(
    worker: Worker, values: tuple[Any, ...], *, lists_tokens: bool = False
) -> AsyncGenerator[tuple[Stream, list[StreamEvent]], None]:
    """An API request, with each batch of its events; raises `gr.Error`.

    If the answer `lists_tokens`, their log-probabilities are limited.
    """
    caller, prompt, *rest = values
    controls = dict(zip((control.name for control in CONTROLS), rest, strict=True))
    try:
        require_string(prompt=prompt)
        params = make_params(controls)
        if lists_tokens and params.logprobs is not None:
            check_size(params.n * params.max_new_tokens, params.logprobs)
        visitor = by_address(caller)
        async with aclosing(worker.stream(GenerationRequest(prompt, params, visitor))) as stream:
            async for events in batches(worker, stream):
                yield stream, events
    except (InvalidControl, RequestRefused) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _generate(worker: Worker) -> Callable[..., AsyncIterator[str]]:
    async def generate(*values: Any) -> AsyncIterator[str]:
        text = ""
        async with aclosing(_events_for(worker, values)) as updates:
            async for _, events in updates:
                text += text_of(events)
                finished = finished_of(events)
                if finished is not None and finished.is_failure:
                    raise gr.Error(str(finished.message), print_exception=False)
                yield text

    return _with_controls(
        generate,
        str,
        "Continue a text. Each update is the whole continuation so far, the first one where there "
        "are several; /complete returns all of them.",
    )


def _complete(worker: Worker) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    async def complete(*values: Any) -> AsyncIterator[dict[str, Any]]:
        answer: dict[str, Any] = {"completions": [], "prompt": None}

        def so_far() -> dict[str, Any]:
            return {**answer, "completions": [_as_it_is(one) for one in answer["completions"]]}

        repeats = Repeats()
        async with aclosing(_events_for(worker, values, lists_tokens=True)) as updates:
            async for stream, events in updates:
                _add_to(answer, worker, stream, events)
                if repeats.is_due(len(events)):
                    yield so_far()
        yield so_far()

    return _with_controls(
        complete,
        dict[str, Any],
        "Continue a text, with all that is known of it: the completions, each with its text, why "
        "it ended, its seed, and the probabilities of its tokens where logprobs asks for them; the "
        "prompt's score where echo does. Each update is the whole answer so far.",
    )


def _add_to(
    answer: dict[str, Any], worker: Worker, stream: Stream, events: list[StreamEvent]
) -> None:
    """Add a batch of events to the answer of `/complete`."""
    params = stream.request.params
    completions = answer["completions"]
    if not completions:
        completions += [_empty_completion(index, params) for index in range(params.n)]
    for event in events:
        match event:
            case Started():
                answer |= describe_start(worker, event, stream)
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
            case Passage():
                completions[event.index]["text"] += event.text
            case Finished():
                completion = completions[event.index]
                completion["text"] += event.text
                completion |= {"finish_reason": event.reason, **describe_finished(event)}


def _as_it_is(completion: dict[str, Any]) -> dict[str, Any]:
    """A copy of a completion for one update; entries of `tokens` never change, so are shared."""
    tokens = completion["tokens"]
    return {**completion, "tokens": None if tokens is None else [*tokens]}


def _empty_completion(index: int, params: SamplingParams) -> dict[str, Any]:
    return {
        "index": index,
        "text": "",
        "finish_reason": None,
        "filtered_away": 0,
        "tokens": None if params.logprobs is None else [],
    }


SHAPING = tuple(control for control in CONTROLS if control.shapes_next_token)


def _alternatives(worker: Worker) -> Callable[..., Any]:
    async def alternatives(*values: Any) -> dict[str, Any]:
        caller, prompt, count, *rest = values
        check_alternatives(count, 1)
        require_string(prompt=prompt)
        controls = dict(zip((control.name for control in SHAPING), rest, strict=True))
        answer: dict[str, Any] = {}
        with as_gradio_errors():
            params = make_params({**controls, "max_new_tokens": 1, "logprobs": count})
            request = GenerationRequest(prompt, params, by_address(caller))
            async with aclosing(worker.stream(request)) as stream:
                async for event in stream:
                    logprobs = None
                    match event:
                        case Started():
                            answer |= describe_start(worker, event, stream)
                        case TokenEvent():
                            logprobs = event.logprobs
                        case Finished():
                            if event.is_failure:
                                raise gr.Error(str(event.message), print_exception=False)
                            logprobs = event.end_logprobs
                    if logprobs is not None:
                        token = describe_token(worker, 0, logprobs)
                        answer["alternatives"] = [
                            {
                                **other,
                                "probability": _probability(other["logprob"]),
                                "sampled_probability": _probability(other["sampled_logprob"]),
                            }
                            for other in token["alternatives"]
                        ]
        if "alternatives" not in answer:
            raise gr.Error(str(message("refused.next_filtered")), print_exception=False)
        del answer["n"], answer["candidates"]
        return answer

    return _with_controls(
        alternatives,
        dict[str, Any],
        "The likeliest next tokens of a text, likeliest first: logprob and probability are the "
        "model's own, sampled_logprob and sampled_probability those that the controls make of "
        "them, and removed_by is the control that removed the token, if one did.\n\n"
        f"count: How many tokens to tell, 1 to {MAX_ALTERNATIVES}.",
        SHAPING,
        {"count": 10},
    )


def _likely(worker: Worker) -> Callable[..., Any]:
    async def likely(*values: Any) -> dict[str, Any]:
        caller, prompt, nodes, depth, least, after_controls, *rest = values
        controls = dict(zip((control.name for control in TREE_CONTROLS), rest, strict=True))
        with as_gradio_errors():
            return await likely_tree(
                worker,
                prompt,
                (nodes, depth, least),
                controls if after_controls else None,
                by_address(caller),
            )

    return _with_controls(
        likely,
        dict[str, Any],
        "The most probable continuations of a text, of whatever length, as a tree of tokens. Each "
        "of nodes is one token: id and parent, depth, token, the text of the whole continuation, "
        "logprob after its parent, sum_logprob of the continuation, and whether it ends the text. "
        "covered says for 1, 2, 3 tokens and so on how probable it is that a continuation of that "
        "length is in the tree.\n\n"
        f"nodes: How many nodes the tree has at most, 1 to {MAX_NODES}.\n"
        f"depth: How many tokens a continuation has at most, 1 to {MAX_DEPTH}.\n"
        "least: How probable a continuation is at least, 0 to 1.\n"
        "after_controls: Whether the probabilities are those that the controls make of the "
        "model's own; without it, they have no effect.",
        TREE_CONTROLS,
        {"nodes": 100, "depth": 12, "least": 0.0, "after_controls": False},
    )


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else round(math.exp(logprob), 8)


def _tokenize(worker: Worker) -> Callable[..., Any]:
    async def tokenize(text: str) -> list[dict[str, Any]]:
        """The tokens of a text: id, text, and its position in the text's UTF-8 bytes.

        If a token is a part of a character, its text shows the bytes, such as \\xe2\\x80.

        text: The text; it can have 50,000 tokens.
        """
        require_string(text=text)
        try:
            tokens = await worker.tokenize(text, most=MAX_TOKENS)
        except RequestRefused as refusal:
            raise gr.Error(str(refusal), print_exception=False) from None
        return [token._asdict() for token in tokens]

    return tokenize
