"""Finds what a completions server can do, from its description and by tiny requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptj_demo.control import Control
from gptj_demo.engine.load.errors import Refusal
from gptj_demo.engine.load.tokenizer import SHORT_TEXT
from gptj_demo.engine.remote.reading import Tokens, scores
from gptj_demo.engine.remote.server import Json, Rejected, Server
from gptj_demo.sampling import CONTROLS

MATCHES = "structured_outputs"
PROMPT_SCORES = "prompt_logprobs"
TOKEN_IDS = {"return_token_ids": True, "return_tokens_as_token_ids": True}

OPENAI = frozenset(one.openai for one in CONTROLS if one.openai is not None)
"""The fields that are assumed for a server that does not list its own."""

_OWN = ("truncate", "stop_token_ids")
_MATCH = ("must_match", "must_match_text")
_NOT_SENT = ("truncate", "token_healing", *_MATCH)
"""`truncate` is applied here. For `token_healing` the server would need the ids of the possible
first tokens. The others are sent as `MATCHES`."""
_OF_PROBABILITIES = ("logprobs", "best_of")


@dataclass(frozen=True, slots=True)
class Abilities:
    """The abilities of a server.

    `fields` are the names of the fields of its requests. The flags say whether it reads prompts as
    token ids (`takes_ids`), returns the ids of generated tokens (`gives_ids`), names tokens by
    their ids in `logprobs` (`names_ids`), and returns the probabilities of generated tokens
    (`gives_logprobs`) and of a prompt (`scores_prompts`).
    """

    fields: frozenset[str]
    takes_ids: bool
    gives_ids: bool
    names_ids: bool
    gives_logprobs: bool
    scores_prompts: bool

    def field_of(self, control: Control) -> str | None:
        """The field of the request for this control, None if there is none."""
        if control.name in _NOT_SENT or not control.shapes_next_token:
            return None
        return next((name for name in control.api_names if name in self.fields), None)

    @property
    def lacks(self) -> tuple[str, ...]:
        """The names of the controls that have no effect there."""
        return tuple(control.name for control in CONTROLS if not self._has(control))

    def _has(self, control: Control) -> bool:
        if control.name in _OF_PROBABILITIES:
            return self.gives_logprobs
        if control.name == "echo":
            return self.scores_prompts
        if not control.shapes_next_token or control.name in _OWN:
            return True  # applied here, to the generated tokens
        if control.name in _MATCH:
            return MATCHES in self.fields
        return self.field_of(control) is not None


async def find_abilities(server: Server, model: str, tokens: Tokens) -> Abilities:
    """What the server can do with this model.

    Raises `Refusal` if it completes nothing or reads texts as other tokens, and `ServerError`.
    """
    described = await find_fields(server)
    fields = OPENAI if described is None else described
    asked = {name: value for name, value in TOKEN_IDS.items() if name in fields}
    base: Json = {"model": model, "max_tokens": 1, "temperature": 0}
    try:
        answer = await server.complete({**base, **asked, "prompt": SHORT_TEXT, "logprobs": 1})
    except Rejected:
        asked = {}
        answer = await _simplest(server, {**base, "prompt": SHORT_TEXT})
    ids = tokens.vocabulary.encode_prompt(SHORT_TEXT)
    choice = _choice(answer)
    _check_tokenizer(server, answer, choice, ids)
    found = scores(choice, tokens)
    names = (choice.get("logprobs") or {}).get("tokens") or [""]
    return Abilities(
        fields=frozenset(fields),
        takes_ids=await _takes(server, {**base, "prompt": ids}, len(ids)),
        gives_ids=isinstance(choice.get("token_ids"), list),
        names_ids=str(names[0]).startswith("token_id:"),
        gives_logprobs=bool(found),
        scores_prompts=PROMPT_SCORES in fields
        and await _scores(server, {**base, "prompt": ids, PROMPT_SCORES: 1}),
    )


async def find_fields(server: Server) -> frozenset[str] | None:
    """The fields of a request that the server knows, None where it lists none.

    vLLM, SGLang and this program describe them by OpenAPI, llama.cpp's server by its settings.
    """
    described = await server.get_beside("/openapi.json")
    if described is not None and (properties := _properties(described)):
        return frozenset(properties)
    props = await server.get_beside("/props")
    if props is not None:
        settings = props.get("default_generation_settings") or {}
        given = settings.get("params") or settings
        return OPENAI | frozenset(given)
    return None


def _properties(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a completions request in an OpenAPI description."""
    try:
        paths = described["paths"]
        usual = ("/v1/completions", "/completions", *paths)
        path = next(one for one in usual if _is_completions(one, paths))
        schema = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        while "$ref" in schema:
            schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        properties: Mapping[str, Any] = schema["properties"]
        return properties
    except (AttributeError, KeyError, TypeError, StopIteration):
        return {}


def _is_completions(path: str, paths: Mapping[str, Any]) -> bool:
    ends = path.endswith("/completions") and not path.endswith("/chat/completions")
    return ends and "post" in paths.get(path, {})


async def _simplest(server: Server, body: Json) -> Json:
    try:
        return await server.complete(body)
    except Rejected as rejected:
        raise Refusal(
            f"The server at {server.name} refuses a request for one token ({rejected}): check url, "
            "which mostly ends in /v1, and model."
        ) from None


async def _takes(server: Server, body: Json, count: int) -> bool:
    """Whether the server reads a prompt as its token ids."""
    try:
        answer = await server.complete(body)
    except Rejected:
        return False
    return _prompt_tokens(answer) in (count, None)


async def _scores(server: Server, body: Json) -> bool:
    try:
        choice = _choice(await server.complete(body))
    except Rejected:
        return False
    return isinstance(choice.get(PROMPT_SCORES), list)


def _choice(answer: Json) -> Json:
    """The only choice of an answer; raises `Rejected`."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Rejected("its answer has no choices", 200)
    choice: Json = choices[0]
    return choice


def _prompt_tokens(answer: Json) -> int | None:
    count = (answer.get("usage") or {}).get("prompt_tokens")
    return count if isinstance(count, int) and count > 0 else None


def _check_tokenizer(server: Server, answer: Json, choice: Json, ids: list[int]) -> None:
    """Raise `Refusal` if the server reads a text as other tokens than the tokenizer here does."""
    theirs = choice.get("prompt_token_ids")
    is_same = theirs == ids if isinstance(theirs, list) else True
    if not is_same or _prompt_tokens(answer) not in (len(ids), None):
        raise Refusal(
            f"The server at {server.name} has another tokenizer than the one here: it reads "
            f'"{SHORT_TEXT}" as {_prompt_tokens(answer)} tokens or as others. Set tokenizer to the '
            "hub id or folder of its model's."
        )
