"""Converts vLLM's, OpenAI's and llama.cpp's fields for what a text must match to ours and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field, PrivateAttr

from gptj_demo.api.bodies import Body, ListOf
from gptj_demo.api.compatibility import name_as_given
from gptj_demo.api.errors import ApiError
from gptj_demo.guidance import read_choices
from gptj_demo.sampling import MAX_TEXT_CHARACTERS, SamplingParams, control_named
from gptj_demo.texts import json_start

KINDS = {
    "guided_choice": "choices",
    "guided_regex": "regex",
    "guided_json": "json",
    "guided_grammar": "grammar",
}
"""vLLM's fields, with our kinds of match."""
_OBJECT = {"type": "object"}
_OURS = ("must_match", "must_match_text")


class MatchFields(Body):
    """The fields that say what a text must match; one may be given."""

    _given_names: dict[str, str] = PrivateAttr(default_factory=dict)

    guided_choice: ListOf[str] | None = Field(
        None, description="The continuation is one of these texts (vLLM)."
    )
    guided_regex: str | None = Field(
        None, description="The continuation matches this regular expression as a whole (vLLM)."
    )
    guided_json: dict[str, Any] | str | None = Field(
        None, description="The continuation is JSON that matches this schema (vLLM)."
    )
    guided_grammar: str | None = Field(
        None,
        description="The continuation matches this grammar, in the syntax of Lark or llama.cpp "
        "(vLLM).",
    )
    structured_outputs: dict[str, Any] | None = Field(
        None,
        description="vLLM's newer form of the four: an object with json, regex, choice, grammar or "
        "json_object.",
    )
    response_format: dict[str, Any] | None = Field(
        None,
        description="OpenAI's form: the type is text, json_object, or json_schema with the schema "
        "in json_schema.schema.",
    )

    def note_names(self, given: dict[str, str]) -> None:
        """Note the names that the request has for parameters, by our names."""
        self._given_names = given

    def name_as_given(self, error: ApiError) -> None:
        """Make an error name the request's own field."""
        if error.param in _OURS:
            error.param = next(iter(_given(self)), error.param)
        name_as_given(error, self._given_names)


def read_match(body: MatchFields) -> dict[str, Any]:
    """What the continuation must match, as our controls; raises `ApiError` 400."""
    given = _given(body)
    if len(given) > 1:
        raise _wrong(
            f"{' and '.join(given)} say what the text must match: leave all but one out.",
            list(given)[1],
        )
    return next(iter(given.values()), {})


@contextmanager
def named_as_given(body: MatchFields) -> Iterator[None]:
    """Make errors name the fields of the request."""
    try:
        yield
    except ApiError as error:
        body.name_as_given(error)
        raise


def in_their_terms(values: dict[str, Any], params: SamplingParams) -> dict[str, Any]:
    """Values for `/v1/completions` with vLLM's field in place of our two controls."""
    others = {name: value for name, value in values.items() if name not in _OURS}
    text = params.must_match_text
    for name, kind in KINDS.items():
        if kind == params.must_match:
            readers = {"choices": read_choices, "json": _schema}
            return {**others, name: readers.get(kind, str)(text)}
    return others


def _schema(text: str) -> Any:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return schema if isinstance(schema, dict) else text


def _given(body: MatchFields) -> dict[str, dict[str, Any]]:
    """The fields that are set, each with the values of our controls that it means."""
    found: dict[str, dict[str, Any]] = {}
    own = getattr(body, "must_match", None)
    if own not in (None, control_named("must_match").off):
        found["must_match"] = {"must_match": own}
    for name, kind in KINDS.items():
        if (value := getattr(body, name)) is not None:
            found[name] = _match(kind, value)
    if body.structured_outputs is not None:
        found["structured_outputs"] = _read_structured(body.structured_outputs)
    if body.response_format is not None:
        found["response_format"] = _read_format(body.response_format)
    return {name: meaning for name, meaning in found.items() if meaning}


def _match(kind: str, value: Any) -> dict[str, Any]:
    # a text above the limit is refused, so its end is not needed
    text = value if isinstance(value, str) else json_start(value, MAX_TEXT_CHARACTERS + 1)
    return {"must_match": kind, "must_match_text": text}


def _read_structured(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value not in (None, False)}
    if not given:
        return {}
    (name, value), *others = given.items()
    if name == "json_object" and value is True and not others:
        return _match("json", _OBJECT)
    kind = KINDS.get(f"guided_{name}")
    if others or kind is None or not _fits(kind, value):
        raise _wrong(
            "structured_outputs must have one of json (a schema), regex (a text), choice (a list "
            "of texts), grammar (a text) or json_object (true).",
            "structured_outputs",
        )
    return _match(kind, value)


def _fits(kind: str, value: Any) -> bool:
    """Whether a value has the type of the field of that kind."""
    if kind == "choices":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str) or (kind == "json" and isinstance(value, dict))


def _read_format(written: dict[str, Any]) -> dict[str, Any]:
    described = written.get("json_schema")
    match written.get("type"):
        case "text":
            return {}
        case "json_object":
            schema = written.get("schema", _OBJECT)  # as llama.cpp has it
        case "json_schema" if isinstance(described, dict):
            schema = described.get("schema")
        case _:
            schema = None
    if not isinstance(schema, dict):
        raise _wrong(
            'response_format must be {"type": "text"}, {"type": "json_object"}, or {"type": '
            '"json_schema", "json_schema": {"name": ..., "schema": {...}}}.',
            "response_format",
        )
    return _match("json", schema)


def _wrong(why: str, param: str) -> ApiError:
    return ApiError(400, why, code="invalid_value", param=param)
