"""The functions of Gradio's API that score given texts, and helpers of all API functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Literal

import gradio as gr

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.parts import read_kind
from gptj_demo.client.scoring import (
    check_count,
    encode_continuation,
    encode_prompt,
    leave_out_each,
    score_continuations,
)
from gptj_demo.client.visitor import by_address
from gptj_demo.control_values import InvalidControl, make_params
from gptj_demo.protocol import (
    Finished,
    GenerationRequest,
    PromptScored,
    Started,
)
from gptj_demo.sampling import MAX_ALTERNATIVES
from gptj_demo.texts import message
from gptj_demo.ui.generation import (
    describe_score,
)
from gptj_demo.ui.why import describe_continuation

MAX_LOGPROBS = 100_000
"""Of an answer: they take 10 MB, which Gradio writes on the event loop."""


@contextmanager
def as_gradio_errors() -> Iterator[None]:
    """Turn the errors of a request into `gr.Error`."""
    try:
        yield
    except (InvalidControl, RequestRefused) as error:
        raise gr.Error(str(error), print_exception=False) from None


def check_alternatives(count: Any, least: int) -> None:
    """Raise `gr.Error` unless `count` is a valid number of alternatives."""
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


def check_size(tokens: int, alternatives: int) -> None:
    """Raise `RequestRefused` for more log-probabilities: one a token, and one an alternative."""
    numbers = tokens * (alternatives + 1)
    if numbers > MAX_LOGPROBS:
        raise RequestRefused(
            "invalid", message("score.too_many_logprobs", numbers=numbers, most=MAX_LOGPROBS)
        )


def score_function(worker: Worker) -> Callable[..., Any]:
    """The function of `/score`."""

    async def score(
        caller: gr.Request, text: str, count: int = 0, truncate: str = "error"
    ) -> dict[str, Any]:
        """The model's log-probability of each token of a text.

        They are natural logarithms before the controls; the first token has none. The answer has
        sum_logprob, perplexity and bits_per_byte over the other tokens, and for each token its rank
        and the most probable alternatives.

        text: The text to score.
        count: How many alternatives to tell of each token, 0 to 20.
        truncate: error refuses a text that does not fit the model; left scores only its end.
        """
        check_alternatives(count, 0)
        if not isinstance(text, str):
            raise gr.Error("text must be a string.", print_exception=False)
        answer: dict[str, Any] = {
            "sum_logprob": 0.0, "perplexity": None, "bits_per_byte": None, "tokens": [],
        }  # fmt: skip
        with as_gradio_errors():
            controls = {"max_new_tokens": 0, "echo": True, "logprobs": count, "truncate": truncate}
            params = make_params(controls)
            if not text:
                return answer | {"dropped_tokens": 0}
            request = GenerationRequest(text, params, by_address(caller))
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


def compare_prompts_function(worker: Worker) -> Callable[..., Any]:
    """The function of `/compare_prompts`."""

    async def compare_prompts(
        caller: gr.Request,
        prompts: list[str],
        continuation: str,
        count: int = 0,
        truncate: str = "error",
    ) -> list[dict[str, Any]]:
        """The log-probability of a continuation after each of several prompts, highest first.

        Prompt and continuation are tokenized separately, so the continuation has the same tokens
        after every prompt. For each prompt: index (its position in the list), sum_logprob,
        mean_logprob per token, bits_per_byte, and the continuation's tokens.

        prompts: The prompts, 64 at most; an empty one is the beginning of a text.
        continuation: What follows each prompt, with the space before its first word.
        count: How many alternatives to tell of each token, 0 to 20.
        truncate: error refuses what does not fit the model; left leaves out a prompt's beginning.
        """
        check_alternatives(count, 0)
        if not isinstance(prompts, list):
            raise gr.Error("prompts must be a list of strings.", print_exception=False)
        found = []
        with as_gradio_errors():
            fixed = await encode_continuation(worker, continuation)
            check_count(prompts)
            check_size(len(fixed.token_ids) * len(prompts), count)
            ids = [await encode_prompt(worker, prompt) for prompt in prompts]
            scores = score_continuations(
                worker, ids, fixed, visitor=by_address(caller), truncate=truncate,
                alternatives=count,
            )  # fmt: skip
            async with aclosing(scores):
                async for one in scores:
                    if one is not None:
                        place, score = one
                        described = describe_continuation(worker, score)
                        found.append({"index": place, "prompt": prompts[place], **described})
        return sorted(found, key=lambda one: (-one["sum_logprob"], one["index"]))

    return compare_prompts


def attribute_function(worker: Worker) -> Callable[..., Any]:
    """The function of `/attribute`."""

    async def attribute(
        caller: gr.Request,
        prompt: str,
        continuation: str,
        parts: Literal["auto", "sentences", "words"] = "auto",
        truncate: str = "error",
    ) -> dict[str, Any]:
        """The influence of each part of a prompt on a continuation: each is left out in turn.

        A part's influence is the log-probability that the continuation loses without it, in total
        and for each token. If it is negative, the part made the continuation less likely.

        prompt: The prompt.
        continuation: What follows it, with the space before its first word.
        parts: What is left out: sentences, words, or auto, which uses words for a short prompt.
            If there are too many, neighbours are left out together.
        truncate: error refuses what does not fit the model; left leaves out the prompt's beginning.
        """
        with as_gradio_errors():
            fixed = await encode_continuation(worker, continuation)
            plan = await leave_out_each(worker, prompt, fixed, read_kind(parts), truncate)
            scores = score_continuations(
                worker, plan.prompts, fixed, visitor=by_address(caller), truncate=truncate
            )
            async with aclosing(scores):
                found = {one[0]: one[1] async for one in scores if one is not None}
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
