"""What the server offers to programs through Gradio.

`/generate` and `/complete` write, `/alternatives` tells what could be written next, `/score`,
`/compare_prompts` and `/attribute` how probable a given text is, `/tokenize` of what it is made.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from types import MappingProxyType
from typing import Any, Literal

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
from gptj_demo.sampling import (
    CONTROLS,
    MAX_ALTERNATIVES,
    Control,
    InvalidControl,
    SamplingParams,
    make_params,
)
from gptj_demo.scoring import (
    check_count,
    encode_continuation,
    encode_prompt,
    leave_out_each,
    read_kind,
    score_continuations,
)
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
from gptj_demo.ui.why import describe_continuation
from gptj_demo.worker import RequestRefused, Worker


def build_api(worker: Worker) -> None:
    """Add the named functions to the present Blocks."""
    for function in (
        _generate(worker),
        _complete(worker),
        _alternatives(worker),
        _score(worker),
        _compare_prompts(worker),
        _attribute(worker),
        _tokenize(worker),
    ):
        api(function, api_name=function.__name__, concurrency_limit=None)


def address_of(caller: gr.Request) -> str:
    """Whose turn a program's requests take: session names are free to be made up."""
    client = caller.client
    return f"address {client.host if client else None}"


def _plain(control: Control) -> Any:
    """The default of a list as JSON has it."""
    return {} if control.kind == "biases" else list(control.default)


def _with_controls(
    function: Callable[..., Any],
    returns: Any,
    help: str,
    controls: Sequence[Control] = CONTROLS,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Callable[..., Any]:
    """Give a function of `*values` its signature: `prompt`, `more` integers and `controls`.

    Before these Gradio puts the request that it came with. `more` holds defaults.
    """
    fields = SamplingParams.model_fields
    types: dict[str, Any] = {"caller": gr.Request, "prompt": str}
    types |= {name: type(default) for name, default in more.items()}
    lists = {"strings": list[str], "integers": list[int], "biases": dict[str, float]}
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
                    raise gr.Error(str(finished.message), print_exception=False)
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


WITHOUT_EFFECT = (
    "max_new_tokens", "max_time", "stop", "n", "best_of", "logprobs", "echo",
)  # fmt: skip
"""Controls that have no part in what the next token is drawn from."""
SHAPING = tuple(control for control in CONTROLS if control.name not in WITHOUT_EFFECT)


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a request becomes a `gr.Error`."""
    try:
        yield
    except (InvalidControl, RequestRefused) as error:
        raise gr.Error(str(error), print_exception=False) from None


def _check_count(count: Any, least: int) -> None:
    if (
        not isinstance(count, int)
        or isinstance(count, bool)
        or not least <= count <= MAX_ALTERNATIVES
    ):
        raise gr.Error(
            f"count must be a whole number from {least} to {MAX_ALTERNATIVES}; "
            f"it was {count!r:.40}.",
            print_exception=False,
        )


def _alternatives(worker: Worker) -> Callable[..., Any]:
    async def alternatives(*values: Any) -> dict[str, Any]:
        caller, prompt, count, *rest = values
        _check_count(count, 1)
        if not isinstance(prompt, str):
            raise gr.Error("prompt must be a string.", print_exception=False)
        controls = dict(zip((control.name for control in SHAPING), rest, strict=True))
        answer: dict[str, Any] = {}
        with _told():
            params = make_params({**controls, "max_new_tokens": 1, "logprobs": count})
            request = GenerationRequest(prompt, params, address_of(caller))
            async with aclosing(worker.stream(request)) as stream:
                async for event in stream:
                    logprobs = None
                    match event:
                        case Started():
                            answer |= describe_start(worker, event, params)
                        case TokenEvent():
                            logprobs = event.logprobs
                        case Finished():
                            if event.reason == "error":
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


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else round(math.exp(logprob), 8)


def _score(worker: Worker) -> Callable[..., Any]:
    async def score(
        caller: gr.Request, text: str, count: int = 0, truncate: str = "error"
    ) -> dict[str, Any]:
        """How probable the model finds a text, token by token.

        Log-probabilities are natural logarithms, the model's own; the first token has none, since
        nothing stands before it. Told are sum_logprob, perplexity and bits_per_byte over the
        others, and of each token its rank and the likeliest tokens in its place.

        text: The text to score.
        count: How many alternatives to tell of each token, 0 to 20.
        truncate: error refuses a text that does not fit the model; left scores only its end.
        """
        _check_count(count, 0)
        if not isinstance(text, str):
            raise gr.Error("text must be a string.", print_exception=False)
        answer: dict[str, Any] = {
            "sum_logprob": 0.0, "perplexity": None, "bits_per_byte": None, "tokens": [],
        }  # fmt: skip
        with _told():
            controls = {"max_new_tokens": 0, "echo": True, "logprobs": count, "truncate": truncate}
            params = make_params(controls)
            if not text:
                return answer | {"dropped_tokens": 0}
            request = GenerationRequest(text, params, address_of(caller))
            async with aclosing(worker.stream(request)) as stream:
                async for event in stream:
                    match event:
                        case Started():
                            answer["dropped_tokens"] = event.dropped_tokens
                        case PromptScored():
                            answer |= describe_score(worker, event)
                        case Finished() if event.reason == "error":
                            raise gr.Error(str(event.message), print_exception=False)
        return answer

    return score


def _compare_prompts(worker: Worker) -> Callable[..., Any]:
    async def compare_prompts(
        caller: gr.Request,
        prompts: list[str],
        continuation: str,
        count: int = 0,
        truncate: str = "error",
    ) -> list[dict[str, Any]]:
        """How likely each of several prompts makes the same continuation, the best first.

        Prompt and continuation are tokenized apart, so that the continuation is the same tokens
        after every prompt. Told of each: index (the prompt's place in the list), sum_logprob,
        mean_logprob a token, bits_per_byte, and the continuation's tokens.

        prompts: The prompts, 64 at most; an empty one is the beginning of a text.
        continuation: What follows each prompt, with the space before its first word.
        count: How many alternatives to tell of each token, 0 to 20.
        truncate: error refuses what does not fit the model; left leaves out a prompt's beginning.
        """
        _check_count(count, 0)
        if not isinstance(prompts, list):
            raise gr.Error("prompts must be a list of strings.", print_exception=False)
        found = []
        with _told():
            fixed = await encode_continuation(worker, continuation)
            check_count(prompts)
            ids = [await encode_prompt(worker, prompt) for prompt in prompts]
            scores = score_continuations(
                worker, ids, fixed, visitor=address_of(caller), truncate=truncate,
                alternatives=count,
            )  # fmt: skip
            async with aclosing(scores) as told:
                async for one in told:
                    if one is not None:
                        place, score = one
                        described = describe_continuation(worker, score)
                        found.append({"index": place, "prompt": prompts[place], **described})
        return sorted(found, key=lambda one: (-one["sum_logprob"], one["index"]))

    return compare_prompts


def _attribute(worker: Worker) -> Callable[..., Any]:
    async def attribute(
        caller: gr.Request,
        prompt: str,
        continuation: str,
        parts: Literal["auto", "sentences", "words"] = "auto",
        truncate: str = "error",
    ) -> dict[str, Any]:
        """Which parts of a prompt made a continuation likely: each is left out in turn.

        A part's influence is the log-probability that the continuation loses without it, in all
        and for each of its tokens; where it is negative the part made the continuation less likely.

        prompt: The prompt.
        continuation: What follows it, with the space before its first word.
        parts: What is left out: sentences, words, or auto, which takes words of a short prompt.
            Where there are very many, neighbours are left out together.
        truncate: error refuses what does not fit the model; left leaves out the prompt's beginning.
        """
        with _told():
            fixed = await encode_continuation(worker, continuation)
            plan = await leave_out_each(worker, prompt, fixed, read_kind(parts), truncate)
            scores = score_continuations(
                worker, plan.prompts, fixed, visitor=address_of(caller), truncate=truncate
            )
            async with aclosing(scores) as told:
                found = {one[0]: one[1] async for one in told if one is not None}
        whole = found[0]
        answer: dict[str, Any] = {"dropped_tokens": plan.dropped_tokens, "parts": []}
        for place, text in enumerate(plan.parts, start=1):
            without = found[place]
            pairs = zip(whole.logprobs, without.logprobs, strict=True)
            lost = [round(with_.logprob - less.logprob, 6) for with_, less in pairs]
            influence = round(whole.sum_logprob - without.sum_logprob, 6)
            answer["parts"].append({"text": text, "influence": influence, "tokens": lost})
        return answer | describe_continuation(worker, whole)

    return attribute


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
