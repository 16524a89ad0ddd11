"""Sentences about wrong values of fields, made from the JSON schema of the body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gptj_demo.texts import quoted

_SHOWN_ITEMS = 100  # of a longer list, the number of items is shown
_KINDS = {
    "string": ("a text", "texts"),
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "boolean": ("true or false", "true or false"),
    "array": ("a list", "lists"),
    "object": ("an object", "objects"),
    "any": ("a value", "values"),
}
"""What a JSON type is called, one and several."""


def closest(first: ErrorDetails, others: list[ErrorDetails]) -> ErrorDetails:
    """The first error; where a text or a list may stand and a list does, the error of the list."""
    if first["type"] == "string_type" and isinstance(first["input"], list):
        place = first["loc"][:-1]
        return next((one for one in others if one["loc"][: len(place)] == place), first)
    return first


def explain_value(model: type[BaseModel], place: Sequence[int | str], value: object) -> str:
    """What is allowed at a place of the body, and the value that was there."""
    schema = _schema_of(model)
    names: list[str] = []
    found: Mapping[str, Any] = schema
    for part in place:
        below = _below(found, part, schema)
        if below is None:  # the branch of a union, which pydantic names too
            continue
        found = below
        names.append(str(part)[:100])
    was = quoted(value)
    if isinstance(value, list) and len(value) > _SHOWN_ITEMS:
        was = f"a list of {len(value):,}"
    return f"{'.'.join(names)} must be {_allowed(found, schema)}; it was {was}."


@cache
def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _branches(found: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a value may match, without the one of null."""
    if "$ref" in found:
        found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    if "anyOf" not in found:
        return [found]
    parts = [part for one in found["anyOf"] for part in _branches(one, schema)]
    return [part for part in parts if part.get("type") != "null"]


def _below(
    found: Mapping[str, Any], part: int | str, schema: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    for branch in _branches(found, schema):
        below = branch.get("items") if isinstance(part, int) else None
        below = below or branch.get("properties", {}).get(part)
        if below is not None:
            return dict(below)
    return None


def _allowed(found: Mapping[str, Any], schema: Mapping[str, Any], several: bool = False) -> str:
    """The values that a schema allows, in words."""
    said = (_allowed_by(branch, schema, several) for branch in _branches(found, schema))
    return " or ".join(dict.fromkeys(said))


def _allowed_by(branch: Mapping[str, Any], schema: Mapping[str, Any], several: bool) -> str:
    kind = str(branch.get("type", "any"))
    said = _KINDS[kind][several]
    if kind == "string" and "maxLength" in branch:
        said += f" of at most {branch['maxLength']:,} characters"
    if "minimum" in branch:
        said += f" from {branch['minimum']:,}"
    if "maximum" in branch:
        said += f" to {branch['maximum']:,}"
    if kind == "array":
        fewest, most = branch.get("minItems"), branch.get("maxItems")
        counted = "" if most is None else f" {fewest} to {most:,}" if fewest else f" up to {most:,}"
        said += f" of{counted} {_allowed(branch.get('items', {}), schema, several=True)}"
    return said
