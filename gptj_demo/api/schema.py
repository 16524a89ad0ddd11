"""The bodies of requests and answers, made from the one table of controls.

Bodies are validated here rather than by FastAPI, so that the key is checked before the body and
each error names the parameter and the allowed values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.requests import Request

from gptj_demo.api.bodies import Body, FirstError, ListOf, aside, at_most
from gptj_demo.api.choices import Shape
from gptj_demo.api.compatibility import NEUTRAL, in_our_terms, name_as_given
from gptj_demo.api.errors import ApiError
from gptj_demo.api.json_body import read_object
from gptj_demo.api.matching import MatchFields, read_match
from gptj_demo.api.wrong_values import closest, explain_value
from gptj_demo.client.likely import MAX_DEPTH, MAX_NODES
from gptj_demo.control import Control
from gptj_demo.control_values import (
    ContradictoryControls,
    InvalidControl,
    explain_wrong,
    make_params,
)
from gptj_demo.sampling import (
    CONTROLS,
    MAX_ALTERNATIVES,
    MAX_BIAS,
    MAX_NEW_TOKENS,
    TREE_CONTROLS,
    SamplingParams,
    control_named,
    most_values,
)
from gptj_demo.texts import quoted

MAX_PROMPTS = 128
MAX_TOKEN_IDS = 200_000
"""Token ids of one prompt or continuation, as many as characters of a text."""
MAX_DETOKENIZED = 100_000
DEFAULTS = {"max_new_tokens": 16, "temperature": 1.0, "top_p": 1.0}
"""OpenAI's defaults that differ from the page's."""

NAMES = {control.name: control.api_name for control in CONTROLS}
"""The controls' names in OpenAI's API."""

_CONTROL_NAMES = {control.api_name: control.name for control in CONTROLS}


class StreamOptions(Body):
    """Options for streaming."""

    include_usage: bool = Field(
        False, description="Send a last chunk with the usage; `usage` is null in the others."
    )
    continuous_usage_stats: bool = Field(False, description="Send the usage so far in every chunk.")
    include_obfuscation: bool = Field(
        False, description="Has no effect: chunks are not padded to hide the length of tokens."
    )


TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[ListOf[TokenId], Field(max_length=MAX_TOKEN_IDS)]
_Prompts = Field(max_length=MAX_PROMPTS)
Prompt = str | TokenIds | Annotated[ListOf[str], _Prompts] | Annotated[ListOf[TokenIds], _Prompts]


class _Body(Body):
    model: str | None = Field(
        None,
        description="The model, as /v1/models names it. Left out, it is the one that answers.",
    )
    prompt: Prompt = Field(
        description="The text to continue; or a list of texts, token ids, or a list of lists of "
        f"token ids. A list has at most {MAX_PROMPTS} prompts.",
    )
    suffix: None = Field(
        None, description="Refused: GPT-J reads from left to right and cannot fill a gap."
    )
    stream: bool | None = Field(
        None, description="Send the words as they come, as server-sent events."
    )
    stream_options: StreamOptions | None = Field(
        None, description="Only with stream: include_usage, continuous_usage_stats."
    )
    truncate_prompt_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Read only so many tokens of each prompt, the last ones."
    )
    truncation_length: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Text-generation-webui's: of each prompt, read only so many tokens less "
        "max_tokens, the last ones.",
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        None,
        description="Tell how probable each token of the prompt was, with so many alternatives, in "
        "prompt_logprobs of each choice.",
    )
    return_token_ids: bool | None = Field(
        None, description="Tell the ids of the tokens: prompt_token_ids and token_ids of a choice."
    )
    timings: bool | None = Field(
        None, description="Tell in timings how long the request waited, read and wrote."
    )
    return_tokens_as_token_ids: bool | None = Field(
        None, description="Name the tokens in logprobs token_id:ID."
    )
    user: str | None = Field(
        None, max_length=256, description="A name of your own for an end user; it has no effect."
    )


_LISTS: dict[str, Any] = {
    "strings": list[str],
    "permutation": list[str],
    "integers": list[int],
    "biases": dict[str, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]],
}


def _field(control: Control) -> tuple[Any, Any]:
    """A control as a field of the body: type, range, default and description."""
    field = SamplingParams.model_fields[control.name]
    default = DEFAULTS.get(control.name, control.default)
    if control.is_list:
        annotation: Any = _LISTS[control.kind]
        default = dict(default) if control.kind == "biases" else list(default)
        most = most_values(control.name)
        annotation = Annotated[annotation, Field(max_length=most)]
        limit = at_most(most) if control.kind == "biases" else FirstError
        annotation = Annotated[annotation, limit]
        if control.name == "stop":
            annotation = str | annotation
    else:
        annotation = field.annotation
    for limit in field.metadata:
        annotation = Annotated[annotation, limit]
    said = f"{control.help} {control.definition}"
    return annotation | None, Field(default, title=control.label, description=said)


def _fields(controls: Iterable[Control]) -> dict[str, Any]:
    return {control.api_name: _field(control) for control in controls}


CompletionRequest = create_model(
    "CompletionRequest",
    __base__=(MatchFields, _Body),
    __doc__="A text to continue, and how.",
    **_fields(CONTROLS),
)
"""The body of POST /v1/completions."""


class TokenizeRequest(Body):
    """A text to tokenize."""

    model: str | None = Field(None, description="The model, as /v1/models names it.")
    prompt: str = Field(description="The text.")
    add_special_tokens: bool | None = Field(
        None, description="Has no effect: GPT-J's tokenizer adds none."
    )
    return_token_strs: bool | None = Field(
        None, description="Has no effect: token_strs is always returned."
    )


class TokenCountRequest(BaseModel):
    """A text whose tokens to count, as text-generation-webui has it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    text: str = Field(description="The text.")


class ScoreRequest(Body):
    """A prompt, and texts that can follow it."""

    model: str | None = Field(None, description="The model, as /v1/models names it.")
    prompt: str | TokenIds = Field(
        description="The text before the continuation, or its token ids."
    )
    continuations: Annotated[
        ListOf[str | TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)
    ] = Field(
        description="What may follow, with the space before the first word: texts or lists of "
        f"token ids, at most {MAX_PROMPTS}."
    )
    logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] | None = Field(
        None, description="How many of the most probable tokens to tell in each place."
    )


class _LikelyBody(Body):
    model: str | None = Field(None, description="The model, as /v1/models names it.")
    prompt: str | TokenIds = Field(
        description="The text before the continuation, or its token ids."
    )
    max_nodes: Annotated[int, Field(ge=1, le=MAX_NODES)] = Field(
        100, description="How many continuations the tree has at most."
    )
    max_depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = Field(
        12, description="How many tokens a continuation has at most."
    )
    min_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="How probable a continuation is at least."
    )


LikelyRequest = create_model(
    "LikelyRequest",
    __base__=_LikelyBody,
    __doc__="A prompt, and the size of the tree of its most probable continuations. With a control "
    "the probabilities are those after the controls, without one the model's own.",
    **_fields(TREE_CONTROLS),
)
"""The body of POST /v1/likely."""


class DetokenizeRequest(Body):
    """Tokens to turn into text."""

    model: str | None = Field(None, description="The model, as /v1/models names it.")
    tokens: Annotated[ListOf[TokenId], Field(max_length=MAX_DETOKENIZED)] = Field(
        description="Token ids."
    )


class RunRequest(BaseModel):
    """The request of Pipeline Cloud's GPT-J."""

    model_config = ConfigDict(extra="ignore", strict=True)

    pipeline_id: str | None = Field(None, description="Any: there is one model here.")
    data: list[Any] = Field(
        min_length=1,
        max_length=2,
        description="The prompt, and an object of parameters: response_length, remove_input or "
        "include_input, and those of transformers' generate.",
    )


# ---- reading them


Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model]) -> Model:
    """The checked body of a request; raises `ApiError` 400 for the first thing that is wrong."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(
            400,
            f"The body must be JSON, sent as Content-Type: application/json; it was {kind[:60]!r}.",
            code="invalid_content_type",
        )
    content = await request.body()
    return await aside(len(content), lambda: parse_values(read_object(content), model))


def parse_values(
    values: Mapping[str, Any],
    model: type[Model],
    *,
    aliases: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> Model:
    """The checked body with these fields; raises `ApiError` 400 for the first that is wrong.

    `aliases` are other names of fields, and `defaults` values of fields that are left out.
    """
    ours, given = in_our_terms(values, aliases)
    for name, default in (defaults or {}).items():
        if ours.get(name) is None:
            ours[name] = default
    try:
        body = model.model_validate(ours)
    except ValidationError as error:
        refusal = _explain(error, model)
        name_as_given(refusal, given)
        raise refusal from None
    if isinstance(body, MatchFields):
        body.note_names(given)
    return body


def _explain(error: ValidationError, model: type[BaseModel]) -> ApiError:
    first, *others = error.errors(include_url=False)
    kind = str(first["type"])
    name = str(first["loc"][0])[:100]
    if kind == "extra_forbidden" and name in NEUTRAL:
        said = NEUTRAL[name].said
        message = f"{name} must be {said} here, or left out; it was {quoted(first['input'])}."
        return ApiError(400, message, code="invalid_value", param=name)
    if kind == "extra_forbidden" and len(first["loc"]) == 1:
        message = (
            f"There is no parameter named {name!r}. The parameters are: "
            f"{', '.join(model.model_fields)}."
        )
        return ApiError(400, message, code="unknown_parameter", param=name)
    if kind == "missing":
        message = f"{name} is missing: {model.model_fields[name].description}"
        return ApiError(400, message, code="missing_parameter", param=name)
    if name == "suffix":
        message = "suffix is not supported: GPT-J reads from left to right and cannot fill a gap."
        return ApiError(400, message, code="unsupported_parameter", param=name)
    if name == "prompt" and model is CompletionRequest:
        message = _explain_prompt(error)
    elif model in (CompletionRequest, LikelyRequest) and name in _CONTROL_NAMES:
        message = _explain_control(_CONTROL_NAMES[name], first)
    elif kind == "extra_forbidden":
        place = ".".join(str(part) for part in first["loc"])
        message = f"There is no parameter named {place[:100]!r}."
    else:
        wrong = closest(first, others)
        message = explain_value(model, wrong["loc"], wrong["input"])
    return ApiError(400, message, code="invalid_value", param=name)


def _explain_prompt(error: ValidationError) -> str:
    limits = {one.get("ctx", {}).get("max_length") for one in error.errors(include_url=False)}
    if MAX_PROMPTS in limits:
        return f"prompt has more than {MAX_PROMPTS} prompts; send them in several requests."
    if MAX_TOKEN_IDS in limits:
        return f"prompt has more than {MAX_TOKEN_IDS:,} token ids, which is the limit; shorten it."
    return (
        "prompt must be a text, a list of texts, a list of token ids, or a list of such lists; "
        "token ids are whole numbers from 0."
    )


def _explain_control(name: str, first: Any) -> str:
    """The table's message for a wrong value."""
    value = first["input"]
    if len(first["loc"]) > 1:  # one of several
        if control_named(name).kind == "biases":
            value = {first["loc"][1]: value}
        elif not isinstance(value, list):
            value = [value]
    try:
        make_params({name: value})
    except InvalidControl as invalid:
        if invalid.name == name:
            return str(invalid.message.renamed(NAMES))
    # the table converts "5" and 5.0, which JSON of the API must not hold in place of 5
    return str(explain_wrong(name, value).renamed(NAMES))


def read_params(body: BaseModel) -> SamplingParams:
    """The controls of a checked body; raises `ApiError` where they contradict each other."""
    values = {ours: getattr(body, name, None) for name, ours in _CONTROL_NAMES.items()}
    values = {name: value for name, value in values.items() if value is not None}
    if isinstance(values.get("stop"), str):
        values["stop"] = [values["stop"]]
    if values.get("echo") and values.get("logprobs") is None:
        # compute the prompt's probabilities only if the answer shows them
        values["echo"] = values.get("max_new_tokens") == 0
    scored = getattr(body, "prompt_logprobs", None)
    if scored is not None:
        values |= {"echo": True, "logprobs": max(scored, values.get("logprobs") or 0)}
    defaults: dict[str, Any] = dict(DEFAULTS)
    if isinstance(body, LikelyRequest):  # no text is generated: allow any min_new_tokens
        defaults["max_new_tokens"] = MAX_NEW_TOKENS
    if isinstance(body, MatchFields):
        values |= read_match(body)
    return params_of({**defaults, **values})


def shape_of(body: Any) -> Shape:
    """What the choices of a request show."""
    return Shape(
        echo=bool(body.echo),
        logprobs=body.logprobs,
        prompt_logprobs=body.prompt_logprobs,
        token_ids=bool(body.return_token_ids),
        tokens_as_ids=bool(body.return_tokens_as_token_ids),
    )


def params_of(values: Mapping[str, Any]) -> SamplingParams:
    """`make_params`; raises `ApiError` 400, or 422 for values that contradict each other."""
    try:
        return make_params(values)
    except InvalidControl as invalid:
        together = isinstance(invalid, ContradictoryControls)
        raise ApiError(
            422 if together else 400,
            str(invalid.message.renamed(NAMES)),
            code="contradictory_values" if together else "invalid_value",
            param=NAMES.get(invalid.name, invalid.name),
        ) from None
