"""What crosses between the web process and the engine process, and what a stream yields.

Plain frozen dataclasses, pickled over one connection. Prompts cross as token ids, so the engine
never tokenizes; text comes back one message a step, for all streams at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptj_demo.sampling import SamplingParams

FinishReason = Literal["stop", "length", "cancelled", "error"]
EngineState = Literal["starting", "loading", "ready", "restarting", "failed"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a visitor asks for. `prompt` is text, or token ids for callers that have them."""

    prompt: str | tuple[int, ...]
    params: SamplingParams


# ---- web -> engine


@dataclass(frozen=True, slots=True)
class Submit:
    """A checked request: ids within the vocabulary, at least one of them, room left to generate."""

    request_id: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End this request wherever it is; unknown ids are ignored, for it may have just ended."""

    request_id: int


# ---- engine -> web


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answers, as the page and the API tell it."""

    name: str
    revision: str | None
    is_sample: bool
    precision: str
    device: str
    device_name: str
    parameters: int
    weight_bytes: int
    context_length: int
    vocabulary_size: int
    bos_token_id: int
    max_streams: int
    why: str
    """One sentence: why this model in this precision on this device."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Where the engine stands; `progress` is 0 to 1 where it is known."""

    state: EngineState
    detail: str
    progress: float | None = None
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class TokenizerReady:
    """The tokenizer as `tokenizers` serialises it; sent before the weights are loaded."""

    tokenizer_json: str
    context_length: int
    vocabulary_size: int
    bos_token_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine cannot start with these settings; starting it again would not help."""

    message: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The request waits; `ahead` requests will start before it."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request holds a slot and its prompt is being read."""

    request_id: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token and the text it released, if no character or stop string is open."""

    request_id: int
    token_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of every stream; `text` was still held back, `message` is for people."""

    request_id: int
    reason: FinishReason
    message: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    seed: int


StreamEvent = Waiting | Started | TokenEvent | Finished


@dataclass(frozen=True, slots=True)
class StepEvents:
    """All that one engine step produced, for all streams."""

    events: tuple[Started | TokenEvent | Finished, ...]
