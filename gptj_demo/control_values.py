"""Reads and writes values of controls, and explains invalid ones."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from gptj_demo.control import Control
from gptj_demo.sampling import (
    CONTROLS,
    MAX_BIAS,
    MAX_STRING_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    SamplingParams,
    control_named,
    read_bias_key,
)
from gptj_demo.texts import Message, MessageError, message, quoted


class InvalidControl(MessageError, ValueError):
    """A control has an invalid value; `name` is the control."""

    def __init__(self, name: str, message: Message) -> None:
        super().__init__(message)
        self.name = name


class ContradictoryControls(InvalidControl):
    """Each value is valid by itself, but not together with those of other controls."""


def read_written(control: Control, lines: Sequence[str]) -> Any:
    """The value of a control as people write it, for `make_params`; raises `InvalidControl`.

    Lists have one entry a line; ids and names may also share a line. In a string of a list, `\\n`
    stands for a line break. An empty optional number is None.
    """
    if control.kind == "strings":
        return tuple(line.replace("\\n", "\n") for line in lines if line)
    if control.kind in ("integers", "permutation"):
        return tuple(" ".join(lines).replace(",", " ").split())
    if control.kind == "biases":
        return tuple(_read_bias(control, line) for line in lines if line.strip())
    if control.kind == "text":
        return "\n".join(lines)
    written = "\n".join(lines).strip()
    return None if control.kind == "optional_integer" and not written else written


def _read_bias(control: Control, line: str) -> tuple[object, str]:
    token, equals, bias = line.rpartition("=")
    if not equals:
        raise InvalidControl(
            control.name,
            message("wrong.bias_line", control=control.called, line=quoted(line)),
        )
    token = token.rstrip(" ")
    written = token if token.startswith('"') else token.replace("\\n", "\n")
    return read_bias_key(written), bias.strip()


def write_value(control: Control, value: Any) -> str:
    """A list as people write it; `read_written` reads it back."""
    if control.kind == "biases":
        return "\n".join(f"{json.dumps(key)} = {bias!r}" for key, bias in value)
    return "\n".join(str(one).replace("\n", "\\n") for one in value)


def make_params(values: Mapping[str, Any]) -> SamplingParams:
    """`SamplingParams` from untrusted values; raises `InvalidControl` for the first wrong one."""
    try:
        return SamplingParams.model_validate(with_one_unknown(values, SamplingParams.model_fields))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "contradiction":
            raise ContradictoryControls(first["ctx"]["name"], first["ctx"]["why"]) from None
        name = str(first["loc"][0]) if first["loc"] else "controls"
        raise InvalidControl(name, _explain(name, first, values)) from None


def with_one_unknown(values: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """The values with at most one unknown name: pydantic makes an error object for each of them."""
    unknown = [name for name in values if name not in known]
    dropped = set(unknown[1:])
    return {name: value for name, value in values.items() if name not in dropped}


def with_values(params: SamplingParams, values: Mapping[str, Any]) -> SamplingParams:
    """`params` with other values of some controls; raises `InvalidControl`."""
    return make_params(params.model_dump() | dict(values))


def explain_wrong(name: str, value: object) -> Message:
    """What is allowed for a control, and the value that it had."""
    return _explain(name, {"type": "other"}, {name: value})


_SHAPES = ("strings", "integers", "biases", "flag", "text")
_TEXTS = ("string_too_short", "string_too_long", "string_unicode")


def _explain(name: str, error: Mapping[str, Any], values: Mapping[str, Any]) -> Message:
    known = [control.name for control in CONTROLS]
    if name not in known:
        return message("wrong.unknown", name=quoted(name), known=", ".join(known))
    control = control_named(name)
    kind = error["type"]
    if kind == "too_many":
        return message("wrong.control", control=control.called, why=error["ctx"]["why"])
    if control.kind in ("strings", "biases", "text") and kind in _TEXTS:
        longest = MAX_TEXT_CHARACTERS if control.kind == "text" else MAX_STRING_CHARACTERS
        why = message(f"wrong.{kind}", most=longest)
        return message("wrong.control", control=control.called, why=why)
    said: dict[str, Any] = {"control": control.called, "value": quoted(values.get(name))}
    if control.kind in _SHAPES:
        return message(f"wrong.{control.kind}", **said, most=MAX_BIAS)
    if control.kind in ("choice", "permutation"):
        return message(f"wrong.{control.kind}", **said, choices=", ".join(control.choices))
    code = "wrong.number" if control.kind == "number" else "wrong.integer"
    assert control.minimum is not None
    assert control.maximum is not None
    least, most = f"{control.minimum:g}", f"{control.maximum:.10g}"
    return message(code, **said, minimum=least, maximum=most)
