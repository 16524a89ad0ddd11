"""The Why view: scores of one continuation after several prompts or without parts of a prompt.

Queries and results live in the visitor's browser: `assets/views/why/`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.parts import parts_of, read_kind
from gptj_demo.client.prompt import read_ids
from gptj_demo.client.scoring import (
    MAX_PROMPTS,
    ContinuationScore,
    check_count,
    encode_continuation,
    encode_prompt,
    leave_out_each,
    most_parts,
    score_continuations,
)
from gptj_demo.client.visitor import by_session
from gptj_demo.protocol import Visitor
from gptj_demo.ui.component import LogHTML
from gptj_demo.ui.generation import describe_token, record
from gptj_demo.ui.stops import Stops

ALTERNATIVES = 5


class Why(LogHTML):
    """Event: `ask` (what, prompt or prompts, continuation, id), with the log as output.

    `server_functions` must hold `plan(asked)` and `stop(id)`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("views/why/why", ("ask",), most_prompts=MAX_PROMPTS, **options)


def build_why(worker: Worker) -> None:
    """Lay out the view in the present Blocks and connect it to the worker."""
    stops = Stops()

    async def stop(request_id: Any) -> bool:
        return stops.stop(request_id)

    async def plan(asked: Any) -> dict[str, Any]:
        try:
            return await _plan(worker, asked if isinstance(asked, dict) else {})
        except RequestRefused as refusal:
            return refusal.message.described()

    def ask(
        asked: Mapping[str, Any], request_id: str, browser: gr.Request
    ) -> AsyncGenerator[str, None]:
        score = _attribute if asked.get("what") == "attribute" else _compare
        return stops.until_stopped(request_id, score(worker, asked, by_session(browser)))

    why = Why(elem_id="why", server_functions=[plan, stop])
    why.write_log(why.ask, ask)


async def _plan(worker: Worker, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The lengths of the texts, and how many tokens leaving out each part would read."""
    prompt, continuation = asked.get("prompt"), asked.get("continuation")
    read = await encode_prompt(worker, str(prompt or ""))
    scored = (await encode_continuation(worker, continuation)).token_ids if continuation else ()
    context = worker.require_ready().context_length
    tokens = min(context, len(read) + len(scored))
    parts = len(parts_of(str(prompt or ""), read_kind(asked.get("kind")), most_parts(tokens)))
    return {
        "prompt_tokens": len(read) if prompt else 0,
        "continuation_tokens": len(scored),
        "context_length": context,
        "parts": parts,
        "parts_read": (parts + 1) * tokens,
    }


async def _compare(
    worker: Worker, asked: Mapping[str, Any], visitor: Visitor
) -> AsyncGenerator[str, None]:
    """The lines of a log: the continuation's score after each prompt, as they arrive."""
    truncate = asked.get("truncate", "error")
    generated_ids = read_ids(asked.get("token_ids") or [])
    continuation = await encode_continuation(worker, asked.get("continuation", ""), generated_ids)
    given = asked.get("prompts")
    given = given if isinstance(given, list) else []
    check_count(given)
    prompts = [await encode_prompt(worker, prompt) for prompt in given]
    scores = score_continuations(
        worker,
        prompts,
        continuation,
        visitor=visitor,
        truncate=truncate,
        alternatives=ALTERNATIVES,
    )
    async with aclosing(scores):
        yield record("continuation", as_generated=continuation.as_generated)
        async for one in scores:
            yield (
                "\n"  # keep-alive
                if one is None
                else record("scored", place=one[0], **describe_continuation(worker, one[1]))
            )


async def _attribute(
    worker: Worker, asked: Mapping[str, Any], visitor: Visitor
) -> AsyncGenerator[str, None]:
    """The lines of a log: the prompt's parts, the continuation's score, the scores without each."""
    truncate = asked.get("truncate", "error")
    generated_ids = read_ids(asked.get("token_ids") or [])
    continuation = await encode_continuation(worker, asked.get("continuation", ""), generated_ids)
    prompt, kind = str(asked.get("prompt", "")), read_kind(asked.get("kind"))
    plan = await leave_out_each(worker, prompt, continuation, kind, str(truncate))
    scores = score_continuations(
        worker, plan.prompts, continuation, visitor=visitor, truncate=truncate
    )
    async with aclosing(scores):
        tokens = [
            {"token_id": token_id, "text": worker.token_text(token_id)}
            for token_id in continuation.token_ids
        ]
        yield record("parts", parts=plan.parts, tokens=tokens, dropped_tokens=plan.dropped_tokens)
        async for one in scores:
            if one is None:
                yield "\n"
                continue
            place, score = one
            logprobs = [round(token.logprob, 6) for token in score.logprobs]
            yield record("without", part=place - 1, logprobs=logprobs)  # -1: all of it


def describe_continuation(worker: Worker, score: ContinuationScore) -> dict[str, Any]:
    """A continuation's score after one prompt, as JSON for page and API."""
    return {
        "prompt_tokens": score.prompt_tokens,
        "dropped_tokens": score.dropped_tokens,
        "sum_logprob": round(score.sum_logprob, 6),
        "mean_logprob": round(score.mean_logprob, 6),
        "bits_per_byte": round(score.bits_per_byte, 6),
        "tokens": [
            describe_token(worker, token_id, logprobs)
            for token_id, logprobs in zip(score.token_ids, score.logprobs, strict=True)
        ],
    }
