"""Turns a request into the engine's message: token ids that fit into the context."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from gptj_demo import guidance
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.control_values import InvalidControl
from gptj_demo.protocol import GenerationRequest, ModelInfo, Submit
from gptj_demo.sampling import SamplingParams
from gptj_demo.served import Served
from gptj_demo.texts import message, quoted
from gptj_demo.tokenization import Token, Vocabulary

MAX_PROMPT_CHARACTERS = 200_000
TOKENIZE_IN_THREAD_FROM = 8000
"""Bytes of UTF-8, each of which can become a token; shorter texts take 2 ms or less."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Properties of the model, known once its tokenizer is loaded.

    `context_length` limits the tokens of prompt and completion together. One more token can follow
    a prompt of that length. `model` is None until the weights have been loaded once.
    """

    vocabulary: Vocabulary
    context_length: int
    model: ModelInfo | None = None


async def encode(text: str, ready: Ready, *, begins: bool = True) -> list[int]:
    """Token ids of a text (if `begins`) or of a part of one; raises `RequestRefused`."""
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise RequestRefused(
            "too_long",
            message(
                "refused.too_many_characters",
                characters=len(text),
                most=MAX_PROMPT_CHARACTERS,
                context=ready.context_length,
            ),
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RequestRefused(
            "invalid",
            message(
                "refused.surrogate",
                place=error.start + 1,
                character=f"U+{ord(text[error.start]):04X}",
            ),
        ) from None
    tokenize = ready.vocabulary.encode_prompt if begins else ready.vocabulary.encode
    if size < TOKENIZE_IN_THREAD_FROM:
        return tokenize(text)
    return await asyncio.to_thread(tokenize, text)


async def tokenize(text: str, ready: Ready, *, most: int | None = None) -> list[Token]:
    """Tokens of a text, `most` of them at most; raises `RequestRefused`."""
    ids = await encode(text, ready)
    if most is not None and len(ids) > most:
        why = message("refused.too_many_tokens", tokens=len(ids), most=most)
        raise RequestRefused("too_long", why)
    if len(text.encode()) < TOKENIZE_IN_THREAD_FROM:
        return ready.vocabulary.tokens(ids, text)
    return await asyncio.to_thread(ready.vocabulary.tokens, ids, text)


async def build_submit(
    request_id: int, request: GenerationRequest, seed: int, ready: Ready
) -> Submit:
    """Tokenize and check a request; raises `RequestRefused`."""
    params, vocabulary = request.params, ready.vocabulary
    if ready.model is not None and ready.model.served is not None:
        check_served(request, ready.model.served)
    try:
        controls = vocabulary.tokenize_controls(params)
        await guidance.check(params)
    except InvalidControl as error:
        raise RequestRefused("invalid", error.message, error.name) from None
    if isinstance(request.prompt, str):
        token_ids = tuple(await encode(request.prompt, ready))
    else:
        token_ids = request.prompt
        check_ids(token_ids, vocabulary)
    kept = fit(token_ids, params, ready.context_length) or (vocabulary.bos_token_id,)
    return Submit(
        request_id,
        kept,
        params,
        seed,
        controls.logit_bias,
        controls.bad_words,
        controls.dry_sequence_breakers,
        max(0, len(token_ids) - len(kept)),
        expansion=request.expansion,
        scored_tokens=request.scored_tokens,
        visitor=None if request.visitor is None else request.visitor.name,
    )


def check_served(request: GenerationRequest, served: Served) -> None:
    """Raise `RequestRefused` if the request needs what the server of the model does not have."""
    if request.expansion is not None:
        raise RequestRefused("invalid", message("refused.no_tree", server=served.server))
    control = served.missing(request.params)
    if control is None:
        return
    if control.name == "echo":
        raise RequestRefused("invalid", message("refused.no_scores", server=served.server))
    why = message("refused.not_served", control=control.called, server=served.server)
    raise RequestRefused("invalid", why, control.name)


async def check_request(request: GenerationRequest, ready: Ready) -> None:
    """Raise `RequestRefused` if the model cannot take the request."""
    await build_submit(0, request, 0, ready)


async def most_used(request: GenerationRequest, ready: Ready) -> int:
    """The most tokens that a request can read and generate; raises `RequestRefused`."""
    prompt, params = request.prompt, request.params
    await asyncio.sleep(0)  # a request can have many prompts
    ids = tuple(await encode(prompt, ready)) if isinstance(prompt, str) else prompt
    read = max(1, len(fit(ids, params, ready.context_length)))
    room = max(1, ready.context_length - read)  # one token can follow a full context
    generated = min(params.max_new_tokens, room)
    return read + params.candidates * generated


def read_ids(value: Any) -> tuple[int, ...]:
    """Token ids from untrusted data; raises `RequestRefused` unless it is a list of integers."""
    if not isinstance(value, list) or any(type(one) is not int for one in value):
        raise RequestRefused("invalid", message("refused.token_ids", value=quoted(value)))
    return tuple(value)


def check_ids(token_ids: tuple[int, ...], vocabulary: Vocabulary) -> None:
    """Raise `RequestRefused` for ids that are not in the vocabulary."""
    if not vocabulary.has_all(token_ids):
        wrong = next(i for i in token_ids if i not in vocabulary)
        last = str(vocabulary.size - 1)
        raise RequestRefused("invalid", message("refused.token_id", token=str(wrong), last=last))


def fit(token_ids: tuple[int, ...], params: SamplingParams, context_length: int) -> tuple[int, ...]:
    """The prompt or, if truncated, its end; see `SamplingParams.truncate`.

    A prompt can fill the context: one token is generated after it, which is not read itself.
    Raises `RequestRefused` for a prompt that is too long and must not be truncated.
    """
    if params.truncate == "left":
        return token_ids[-longest_read(params.max_new_tokens, context_length) :]
    if len(token_ids) > context_length:
        sizes = {"tokens": len(token_ids), "context": context_length}
        why = message("refused.too_long", **sizes, count=len(token_ids) - context_length)
        raise RequestRefused("too_long", why, "truncate")
    return token_ids


def longest_read(max_new_tokens: int, context_length: int) -> int:
    """Tokens of a prompt that are read if it may be truncated: at least half of the context."""
    return context_length - min(max_new_tokens, context_length // 2)
