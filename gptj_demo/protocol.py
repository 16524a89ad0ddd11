"""Messages between the web process and the engine process, and the events of a stream.

Frozen dataclasses and named tuples, pickled over one connection. Prompts are sent as token ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from gptj_demo.drafts import Drafts
from gptj_demo.sampling import SamplingParams
from gptj_demo.served import Served
from gptj_demo.texts import Message

FinishReason = Literal["stop", "length", "cancelled", "error", "filtered", "unmet"]
EngineState = Literal["starting", "loading", "ready", "restarting", "failed"]


class Visitor(NamedTuple):
    """Who a request comes from: a name, and the network address that the name belongs to.

    Names can be made up, addresses cannot. `gpu_quota` is Hugging Face's token for GPU seconds.
    """

    name: str
    address: str
    gpu_quota: str | None = None


class Written(NamedTuple):
    """The tokens that a completion had when its engine ended.

    `sum_logprob`, the model's own, and `sampled_logprobs`, after the controls, are natural
    logarithms, where the engine computed them. `filtered_away` counts the tokens for which the
    controls left no candidate.
    """

    token_ids: tuple[int, ...] = ()
    sampled_logprobs: tuple[float, ...] = ()
    sum_logprob: float | None = None
    filtered_away: int = 0


@dataclass(frozen=True, slots=True)
class Expansion:
    """Asks for the most probable next tokens of several continuations, instead of a text.

    `paths` are the continuations, each one completion of the request; only their `token_ids` and
    `sampled_logprobs` are used. The answer has at most `most` tokens for each path, whose
    log-probability, the model's own or that `after_controls`, is at least that in `floors`.
    """

    paths: tuple[Written, ...]
    floors: tuple[float, ...]
    most: int
    after_controls: bool


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a visitor asks for. `prompt` is text, or token ids for callers that have them.

    Requests of one `visitor` share turns; None is the process itself. With an `expansion`, no text
    is generated. With `echo`, the last `scored_tokens` of the prompt are scored, None for all.
    `continues` marks a further part of a request.
    """

    prompt: str | tuple[int, ...]
    params: SamplingParams
    visitor: Visitor | None = None
    expansion: Expansion | None = None
    scored_tokens: int | None = None
    continues: bool = False

    @property
    def candidates(self) -> int:
        """How many completions the engine makes."""
        return len(beginnings(self.params, self.expansion))

    @property
    def n(self) -> int:
        """How many of them the stream yields."""
        return self.params.n if self.expansion is None else self.candidates


def beginnings(params: SamplingParams, expansion: Expansion | None) -> dict[int, Written]:
    """The tokens that each completion of a new request begins with, by index."""
    if expansion is None:
        return {index: Written() for index in range(params.candidates)}
    return dict(enumerate(expansion.paths))


# ---- web -> engine


@dataclass(frozen=True, slots=True)
class Resumption:
    """A part of a request: completions that the engine does not have, with their tokens so far.

    They start later than the others, or their engine ended. `written` has them by index; `elapsed`
    is the seconds since the request first held a slot; `is_scored` says its prompt was scored.
    """

    written: dict[int, Written]
    elapsed: float
    is_scored: bool


@dataclass(frozen=True, slots=True)
class Submit:
    """A checked request: ids within the vocabulary, at least one, at most a whole context.

    `logit_bias` and `bad_words` are those of `params` as token ids; `dropped_tokens` says how many
    of the prompt's first tokens `truncate` removed. `resumption` is None for a whole new request;
    `scored_tokens` is as in `GenerationRequest`, `visitor` is the visitor's name.
    """

    request_id: int
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    seed: int
    logit_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    dry_sequence_breakers: frozenset[int] = frozenset()
    dropped_tokens: int = 0
    resumption: Resumption | None = None
    expansion: Expansion | None = None
    scored_tokens: int | None = None
    visitor: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """End this request; an unknown id is ignored, because the request may have just ended."""

    request_id: int


# ---- engine -> web


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answers, as the page and the API describe it."""

    name: str
    revision: str | None
    is_sample: bool
    maker: str
    """Who made the original models of its family; see `engine/load/families.py`."""
    licence: str | None
    """Of the weights, where it is known."""
    adapters: tuple[str, ...]
    """Adapters merged into the weights, by name, followed by `=WEIGHT` if that is not 1."""
    precision: str
    device: str
    device_name: str
    forward_path: str
    """See `engine/model/select.py`."""
    parameters: int
    weight_bytes: int
    context_length: int
    vocabulary_size: int
    bos_token_id: int
    max_num_seqs: int
    max_tokens: int
    """Tokens of the KV cache, of all streams together."""
    why: Message
    """Why this model in this precision on this device, and what fails to be fast, if anything."""
    served: Served | None = None
    """The server that computes the model, and the controls it lacks; None if none does."""

    @property
    def full_name(self) -> str:
        """The name with those of its adapters."""
        return " + ".join((self.name, *self.adapters))


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The state of the engine; `progress` is 0 to 1, None if it is not known."""

    state: EngineState
    detail: Message
    progress: float | None = None
    model: ModelInfo | None = None


@dataclass(frozen=True, slots=True)
class TokenizerReady:
    """The tokenizer, and what its ids mean; sent before the weights are loaded."""

    tokenizer_json: str
    """As `tokenizers` serialises it."""
    context_length: int
    vocabulary_size: int
    """One more than the largest id that can stand in a text."""
    bos_token_id: int
    """The token that the model reads for an empty prompt."""
    eos_token_ids: tuple[int, ...]
    """Tokens that end a text; can be empty."""
    unused_token_ids: tuple[int, ...]
    """Ids below `vocabulary_size` that cannot stand in a text, ascending."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The engine cannot start with these settings; starting it again would not help."""

    message: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """The engine has compiled code and put it into the cache; sent before it is ready.

    Freshly compiled code can round differently from cached code, so the engine restarts once.
    """


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The engine is alive; sent about once a second, by a thread of its own.

    `step_seconds` is how long the present step has been running, None between two steps.
    """

    step_seconds: float | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The request waits; `ahead` requests will start before it."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The engine ended; the request goes on where it stopped once another engine is ready."""


@dataclass(frozen=True, slots=True)
class Started:
    """The request holds a slot and its prompt is being read.

    `truncate` removed its first `dropped_tokens` tokens; `token_healing` removed its last token,
    `healed_token_id`, which is None if it removed none.
    """

    request_id: int
    prompt_tokens: int
    dropped_tokens: int = 0
    healed_token_id: int | None = None


class Alternative(NamedTuple):
    """One of the most probable tokens at a position, by the model's own probabilities.

    `sampled_logprob` is that after the controls, None if the control `removed_by` removed it.
    """

    token_id: int
    logprob: float
    sampled_logprob: float | None
    removed_by: str | None


class TokenLogprobs(NamedTuple):
    """How probable a token was: natural logarithms.

    `logprob` is the model's own, over all rows of its head as in `GPTJForCausalLM`, and gives the
    `rank`, from 1; `sampled_logprob` is that after the controls, None for tokens of the prompt.
    """

    logprob: float
    sampled_logprob: float | None
    rank: int
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class PromptScored:
    """How probable the prompt was; comes before the first token.

    `logprobs` has one entry for each of `token_ids`, None for the first token, because no token
    precedes it, and for tokens before the last `scored_tokens`. `perplexity` and `bits_per_byte`
    are over the other tokens, None if there are none.
    """

    request_id: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs | None, ...]
    sum_logprob: float
    perplexity: float | None
    bits_per_byte: float | None


class TokenEvent(NamedTuple):
    """One generated token of completion `index`, and the text it released.

    The text is empty while a character or a stop string may be incomplete. `filtered_away` says
    that the controls left no candidate, so the model's most probable token was taken. The engine
    also sends `logprobs` that only a resumption would need; streams yield them only if requested.
    A dataclass takes three times as long to create and send.
    """

    request_id: int
    token_id: int
    text: str
    index: int = 0  # type: ignore[assignment]  # replaces a method of tuples that nothing calls
    logprobs: TokenLogprobs | None = None
    filtered_away: bool = False


class Expanded(NamedTuple):
    """The next tokens of path `index` of an `Expansion`: ids and log-probabilities.

    The most probable token comes first. `Finished` follows.
    """

    request_id: int
    children: tuple[tuple[int, float], ...]
    index: int = 0  # type: ignore[assignment]  # as in TokenEvent


class Passage(NamedTuple):
    """Text of completion `index` that comes without a token; only with a filter.

    `passed`: text of a token whose event comes later or was left out. `left_out`: a placeholder for
    a sentence; the events of its tokens do not come. `marked`: `sentence` is flagged and has just
    been shown, `text` is empty. `untokened` is how many characters so far get no token event, in
    addition to those of earlier passages. `label` is the filter's label for the sentence.
    """

    request_id: int
    text: str
    index: int = 0  # type: ignore[assignment]  # as in TokenEvent
    untokened: int = 0
    kind: Literal["passed", "left_out", "marked"] = "passed"
    sentence: str = ""
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Drafting:
    """Candidates of `best_of` are being generated; together they have `tokens` tokens so far."""

    tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of completion `index`; that of the last one ends the stream.

    `text` was still held back. `seed` reproduces this completion alone. `completion_tokens` counts
    an end-of-text token too; `sum_logprob` is the model's own log-probability of them all, if
    `logprobs` or `best_of` is set. `cached_tokens` of the prompt came from the prefix cache,
    `own_cached_tokens` of them from what its visitor had sent. `end_token_id` ended the text and is
    not part of it. With reason `unmet`, no token could follow and `must_match_text` is not met.
    """

    request_id: int
    reason: FinishReason
    message: Message
    text: str
    prompt_tokens: int
    completion_tokens: int
    seed: int
    index: int = 0
    sum_logprob: float | None = None
    cached_tokens: int = 0
    own_cached_tokens: int = 0
    drafts: tuple[Drafts, ...] = ()
    end_token_id: int | None = None
    end_logprobs: TokenLogprobs | None = None

    @property
    def is_failure(self) -> bool:
        """Whether the text is not what was asked for; `message` says why."""
        return self.reason in ("error", "unmet")

    @property
    def mean_logprob(self) -> float | None:
        """`sum_logprob` per token."""
        if self.sum_logprob is None or not self.completion_tokens:
            return None
        return self.sum_logprob / self.completion_tokens


EngineEvent = Started | PromptScored | TokenEvent | Expanded | Finished
StreamEvent = Waiting | Reconnecting | Drafting | Passage | EngineEvent


@dataclass(frozen=True, slots=True)
class StepEvents:
    """All that one engine step produced, for all streams."""

    events: tuple[EngineEvent, ...]
