"""The axes of a comparison: values of a control, or presets, as typed by a visitor."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptj_demo.control import Control
from gptj_demo.control_values import (
    ContradictoryControls,
    InvalidControl,
    make_params,
    write_value,
)
from gptj_demo.sampling import CONTROLS, PRESETS
from gptj_demo.texts import Message, message, quoted
from gptj_demo.ui.grid_errors import MAX_CELLS, InvalidGrid, refuse_twice

MAX_AXIS_CHARACTERS = 2000
PRESET = "preset"
"""The axis of presets; every other axis is a control of the table."""

OF_A_CELL: dict[str, Any] = {"n": 1, "logprobs": 0, "echo": False}
"""Fixed settings of every cell: one completion, with its mean log-probability."""

AXES: dict[str, Control] = {
    control.name: control
    for control in CONTROLS
    if not control.is_list and control.kind != "text" and control.name not in OF_A_CELL
}
"""The controls that can be an axis, by name."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(
    rf"({_NUMBER})\s+to\s+({_NUMBER})\s+in\s+(\d+)\s+steps?", re.IGNORECASE | re.ASCII
)

Heading = tuple[tuple[str | Message, str | Message], ...]
"""What varies along the rows or columns, as pairs of label and value.

Texts of the page are messages; a visitor's own names and values are strings."""


@dataclass(frozen=True, slots=True)
class Value:
    """One position on an axis: its label and the settings it makes."""

    heading: Heading
    settings: dict[str, Any]


NOTHING = [Value((), {})]


def axis_values(field: str, name: str, written: str) -> list[Value]:
    """The positions of an axis, parsed from values of a control or names of presets.

    Values are separated by commas, slashes, semicolons or lines, and may be ranges such as
    `0.2 to 1.4 in 5 steps`, both ends included. Raises `InvalidGrid`.
    """
    if not name:
        return NOTHING
    if len(written) > MAX_AXIS_CHARACTERS:
        raise InvalidGrid(
            field,
            message(
                "grid.axis_too_long",
                characters=len(written),
                most=MAX_AXIS_CHARACTERS,
                cells=MAX_CELLS,
            ),
        )
    items = [item.strip() for item in re.split(r"[,;/\n]", written) if item.strip()]
    if name == PRESET:
        return _preset_values(field, items)
    control = AXES.get(name)
    if control is None:
        known = ", ".join([PRESET, *AXES])
        raise InvalidGrid(field, message("grid.no_axis", name=quoted(name), known=known))
    if not items:
        example = suggestion(name)
        raise InvalidGrid(field, message("grid.no_values", called=control.called, example=example))
    read: list[Any] = []
    for item in items:
        read += _read_item(field, control, item)
    labels = [_label(control, value) for value in read]
    refuse_twice(field, control.called, labels)
    return [
        Value(((message(f"control.{name}.label"), label),), {name: value})
        for label, value in zip(labels, read, strict=True)
    ]


def _preset_values(field: str, items: Sequence[str]) -> list[Value]:
    by_name = {name.lower(): name for name in PRESETS}
    if not items:
        raise InvalidGrid(field, message("grid.choose_presets", known=", ".join(PRESETS)))
    for item in items:
        if item.lower() not in by_name:
            known = ", ".join(PRESETS)
            raise InvalidGrid(field, message("grid.no_preset", name=quoted(item), known=known))
    names = [by_name[item.lower()] for item in items]
    refuse_twice(field, message("grid.presets"), names)
    called = message("panel.preset")
    return [
        Value(((called, message(f"preset.{name.lower()}")),), dict(PRESETS[name])) for name in names
    ]


def _read_item(field: str, control: Control, item: str) -> list[Any]:
    """The value of one item, or the values if it is a range."""
    span = _RANGE.fullmatch(item)
    if span is None:
        return [_read_value(field, control, item)]
    if control.minimum is None:
        raise InvalidGrid(field, message("grid.no_ranges", control=control.called))
    first, last = (float(_read_value(field, control, end)) for end in span.groups()[:2])
    steps = int(span[3][:10])
    if steps > MAX_CELLS:
        raise InvalidGrid(field, message("grid.too_many_steps", steps=steps, most=MAX_CELLS))
    if steps < 2 or first == last:
        raise InvalidGrid(field, message("grid.bad_range"))
    values = [first + (last - first) * step / (steps - 1) for step in range(steps - 1)] + [last]
    if control.kind == "number":
        return [float(f"{value:.6g}") for value in values]
    whole = [math.floor(value + 0.5) for value in values]
    if len(set(whole)) < steps:
        ends = {"first": span[1], "last": span[2]}
        count = int(abs(last - first)) + 1
        called = control.called
        why = message("grid.whole_numbers", control=called, count=count, steps=steps, **ends)
        raise InvalidGrid(field, why)
    return list(whole)


def _read_value(field: str, control: Control, written: str) -> Any:
    try:
        return getattr(make_params({control.name: written}), control.name)
    except ContradictoryControls:  # the other controls have defaults here
        return written if control.minimum is None else int(float(written))
    except InvalidControl as error:
        raise InvalidGrid(field, error.message) from None


def _label(control: Control, value: Any) -> str | Message:
    if isinstance(value, bool):
        return message("text.on" if value else "text.off")
    if control.choices:
        return message(f"choice.{value}")
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def suggestion(name: str) -> str:
    """Suggested values, as a visitor would type them."""
    if name == PRESET:
        return ", ".join(PRESETS)
    control = AXES[name]
    if control.suggestions is not None:
        return control.suggestions
    if control.kind == "flag":
        return "off, on"
    if control.kind == "choice":
        return ", ".join(control.choices)
    return f"{control.minimum:g} to {control.maximum:.10g} in 4 steps"


def panel_controls() -> list[dict[str, Any]]:
    """The controls that cells take from the Write panel, with their initial values there."""
    return [
        {"name": control.name, "initial": _initial_value(control)}
        for control in CONTROLS
        if control.name not in OF_A_CELL
    ]


def _initial_value(control: Control) -> Any:
    if control.is_list:
        return write_value(control, control.default)
    return "" if control.default is None else control.default
