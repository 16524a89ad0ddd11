"""The answers of the API's routes, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


class Logprobs(BaseModel):
    """Probabilities of the tokens, in parallel lists."""

    tokens: list[str] = Field(
        description="The tokens' texts; a part of a character is written as bytes:\\xf0\\x9f."
    )
    token_logprobs: list[float | None] = Field(
        description="The model's own log-probability of each, null for the prompt's first."
    )
    top_logprobs: list[dict[str, float] | None] = Field(
        description="The most probable tokens there, and the token itself."
    )
    text_offset: list[int] = Field(
        description="Where each token begins, in characters from the prompt's beginning on."
    )


class Choice(BaseModel):
    """One completion."""

    text: str = Field(description="The text, with echo the prompt before it.")
    index: int = Field(description="Prompt i of n completions each has i * n to i * n + n - 1.")
    logprobs: Logprobs | None = Field(description="Null where they were not asked for.")
    finish_reason: Literal["stop", "length", "content_filter"] | None = Field(
        description="Why it ended; null in all chunks of a stream but the last. content_filter: "
        "the playground's filter ended the text before a sentence."
    )
    prompt_token_ids: list[int] | None = Field(
        None, description="The prompt's tokens, in the first chunk of a stream; if asked for."
    )
    token_ids: list[int] | None = Field(
        None, description="The tokens that were written, with the one that ended the text."
    )
    prompt_logprobs: list[dict[str, Any] | None] | None = Field(
        None,
        description="For each token of the prompt its logprob, rank and decoded_token, and those "
        "of the most probable tokens there, by id; null for the first. If asked for.",
    )


class PromptTokensDetails(BaseModel):
    """Details of the prompt's tokens."""

    cached_tokens: int = Field(
        description="Prompt tokens that came from the prefix cache and that an earlier request of "
        "the same caller had."
    )


class Usage(BaseModel):
    """The numbers of tokens of a request."""

    prompt_tokens: int = Field(description="Tokens of the prompts.")
    completion_tokens: int = Field(description="Generated tokens, with candidates of best_of.")
    total_tokens: int = Field(description="prompt_tokens plus completion_tokens.")
    prompt_tokens_details: PromptTokensDetails


class CompletionResponse(BaseModel):
    """The completions; a stream sends objects of the same form, each with the new part."""

    id: str = Field(description="Begins with cmpl-.")
    object: Literal["text_completion"]
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(description="The model that answered.")
    system_fingerprint: str = Field(
        description="Changes with model, revision, adapters, precision, device and code: as long "
        "as it is the same, a seed gives the same text."
    )
    choices: list[Choice]
    usage: Usage | None
    timings: dict[str, float | None] | None = Field(
        None,
        description="Milliseconds in the queue, of the prompt and of generation, with llama.cpp's "
        "names; only if timings is true.",
    )


class ContinuationScore(BaseModel):
    """How probable one continuation is; natural logarithms, before the controls."""

    index: int = Field(description="Its place in the request.")
    sum_logprob: float = Field(description="Of all its tokens.")
    mean_logprob: float = Field(description="Mean log-probability per token.")
    is_greedy: bool = Field(description="Whether each token is the most probable one.")
    token_ids: list[int]
    token_logprobs: list[float]
    logprobs: list[dict[str, Any]] = Field(
        description="For each token its logprob, rank and decoded_token, and those of the most "
        "probable tokens there, by id."
    )


class ScoreResponse(BaseModel):
    """The scores, in the order of the request."""

    object: Literal["list"]
    model: str
    data: list[ContinuationScore]
    usage: Usage


class LikelyNode(BaseModel):
    """One token of the tree, and with its parents a continuation."""

    id: int = Field(description="Its place in data.")
    parent: int | None = Field(description="The token before it; null for the first of a path.")
    depth: int = Field(description="How many tokens the continuation has.")
    token_id: int
    token: str = Field(description="The token's text; of a part of a character its bytes.")
    text: str = Field(description="The whole continuation.")
    logprob: float = Field(description="Of the token after those before it; natural logarithm.")
    sum_logprob: float = Field(description="Of the whole continuation.")
    ends: bool = Field(description="Whether the token ends the text.")


class LikelyResponse(BaseModel):
    """The most probable continuations, of whatever length, the most probable first."""

    object: Literal["list"]
    model: str
    after_controls: bool = Field(
        description="True if the probabilities are those after the controls."
    )
    data: list[LikelyNode]
    covered: list[float] = Field(
        description="For 1, 2, 3 tokens and so on: the probability that a continuation of that "
        "length is in the tree."
    )
    usage: Usage


class ErrorObject(BaseModel):
    """What was wrong."""

    message: str = Field(description="For people.")
    type: str = Field(description="The kind, by status.")
    param: str | None = Field(description="The parameter, where one was wrong.")
    code: str | None = Field(description="For programs.")


class ErrorResponse(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorObject


class Model(BaseModel):
    """An available model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    adapters: list[str] = Field(
        description="LoRA adapters that are merged into the model, each followed by =WEIGHT if "
        "it is not 1."
    )
    max_model_len: int = Field(description="Tokens that prompt and continuation have together.")


class ModelList(BaseModel):
    """The available models."""

    object: Literal["list"]
    data: list[Model]


class TokenizeResponse(BaseModel):
    """The tokens of a text."""

    count: int
    max_model_len: int = Field(description="Tokens that prompt and continuation have together.")
    tokens: list[int] = Field(description="The ids.")
    token_strs: list[str] = Field(description="The texts; of a part of a character its bytes.")
    byte_offsets: list[int] = Field(description="Where each begins in the text's UTF-8 bytes.")


class TokenCountResponse(BaseModel):
    """How many tokens a text has."""

    length: int


class DetokenizeResponse(BaseModel):
    """The text of the tokens."""

    prompt: str


class RunResponse(BaseModel):
    """The answer of Pipeline Cloud's GPT-J."""

    id: str
    created_at: str
    started_at: str
    ended_at: str
    run_state: Literal["completed"]
    compute_time_ms: int
    result: None
    result_preview: list[list[str]] = Field(description="The texts: result_preview[0][0].")
