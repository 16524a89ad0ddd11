"""What a comparison consists of: prompts out of a template, by ranges of controls.

Everything here is worked out from what a visitor typed, before anything runs; what is wrong with it
is an `InvalidGrid`, whose sentence names the field.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.sampling import (
    CONTROLS,
    MAX_SEED,
    PRESETS,
    ContradictoryControls,
    Control,
    InvalidControl,
    SamplingParams,
    make_params,
)
from gptj_demo.texts import Message, MessageError, listed, message, quoted, say

MAX_CELLS = 36
MAX_NAME_CHARACTERS = 40
MAX_AXIS_CHARACTERS = 2000
TIMES = "\N{MULTIPLICATION SIGN}"
PRESET = "preset"
"""The axis of named settings, beside those of the table's controls."""

OF_A_CELL: dict[str, Any] = {"n": 1, "logprobs": 0, "echo": False}
"""What every cell is asked with: one completion, whose mean log-probability is told."""

AXES: dict[str, Control] = {
    control.name: control
    for control in CONTROLS
    if not control.is_list and control.name not in OF_A_CELL
}
"""The controls that an axis can go through, by name."""

SUGGESTIONS = {
    PRESET: ", ".join(PRESETS),
    "max_new_tokens": "20, 60, 120",
    "temperature": "0.2 to 1.4 in 5 steps",
    "top_p": "0.8, 0.95, 1",
    "top_k": "5, 20, 100, 0",
    "min_p": "0, 0.02, 0.05, 0.1",
    "typical_p": "0.2, 0.5, 0.9, 1",
    "epsilon_cutoff": "0, 0.0003, 0.003",
    "eta_cutoff": "0, 0.0003, 0.003",
    "xtc_probability": "0, 0.5, 1",
    "repetition_penalty": "1, 1.1, 1.2, 1.4",
    "presence_penalty": "0, 0.5, 1",
    "frequency_penalty": "0, 0.5, 1",
    "no_repeat_ngram_size": "0, 2, 3",
    "dry_multiplier": "0, 0.4, 0.8",
    "dry_base": "1.25, 1.75, 2.5",
    "dry_allowed_length": "1, 2, 4",
    "min_new_tokens": "0, 40, 80",
    "best_of": "1, 2, 4",
    "seed": "1, 2, 3, 4",
}
"""Values that show what a control does, for a beginning; the others' are made from the table."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(
    rf"({_NUMBER})\s+to\s+({_NUMBER})\s+in\s+(\d+)\s+steps?", re.IGNORECASE | re.ASCII
)
_WORDS = re.compile(r"\w+(?:['\u2019]\w+)*")


class InvalidGrid(MessageError, ValueError):
    """A field cannot be what it is: `prompt`, `values of NAME`, `rows`, `columns`, `length`, ..."""

    def __init__(self, field: str, message: Message) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Cell:
    """One request of a comparison; `row` and `column` count from 0.

    `settings` are the controls in which cells may differ, by name. Where these contradict each
    other `params` is None and `message` says how.
    """

    row: int
    column: int
    prompt: int
    settings: dict[str, Any]
    params: SamplingParams | None
    message: Message | None = None


Heading = tuple[tuple[str, str], ...]
"""What a row or a column has its own value of: pairs of label and value."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A comparison, row by row; a heading is empty where there is nothing to tell apart."""

    rows: tuple[Heading, ...]
    columns: tuple[Heading, ...]
    prompts: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def most_tokens(self) -> int:
        """The tokens that all cells may write together."""
        asked = [cell.params for cell in self.cells if cell.params is not None]
        return sum(params.max_new_tokens * params.candidates for params in asked)


# ---- templates


def parse_template(template: str) -> tuple[list[str], list[str]]:
    """The texts around the placeholders, one more than these, and the placeholders' names.

    `{{` and `}}` are braces of the text. Raises `InvalidGrid`.
    """
    texts, names = [""], []
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\}|[{}])", template)
    place = 0
    for part in parts:
        if part in ("{{", "}}"):
            texts[-1] += part[0]
        elif part in ("{", "}"):
            code = "grid.never_closed" if part == "{" else "grid.never_opened"
            raise InvalidGrid("prompt", message(code, place=place + 1))
        elif part.startswith("{"):
            names.append(_placeholder_name(part[1:-1]))
            texts.append("")
        else:
            texts[-1] += part
        place += len(part)
    return texts, names


def _placeholder_name(written: str) -> str:
    name = written.strip()
    if not name:
        raise InvalidGrid("prompt", message("grid.no_name"))
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidGrid(
            "prompt",
            message("grid.long_name", most=MAX_NAME_CHARACTERS, name=quoted(name)),
        )
    return name


def _fill(texts: Sequence[str], places: Sequence[str], values: Mapping[str, str]) -> str:
    """The texts with a value at each place, taken as it is; raises `InvalidGrid`."""
    length = sum(map(len, texts)) + sum(len(values[name]) for name in places)
    if length > MAX_PROMPT_CHARACTERS:
        raise InvalidGrid(
            "prompt",
            message("grid.template_too_long", characters=length, most=MAX_PROMPT_CHARACTERS),
        )
    filled = [text + values[name] for text, name in zip(texts, places, strict=False)]
    return "".join(filled) + texts[-1]


def placeholder_values(name: str, lines: Sequence[str]) -> list[str]:
    """The values of a placeholder, whose empty lines do not count; raises `InvalidGrid`.

    `\\n` stands for a line break.
    """
    field = f"values of {name}"
    values = [line.replace("\\n", "\n") for line in lines if line.strip()]
    if not values:
        raise InvalidGrid(field, message("grid.no_lines", name=f"{{{name}}}"))
    _refuse_twice(field, f"{{{name}}}", values)
    return values


# ---- axes


@dataclass(frozen=True, slots=True)
class _Value:
    """One place on an axis: how it is called, and what it sets."""

    heading: Heading
    settings: dict[str, Any]


_NOTHING = [_Value((), {})]


def axis_values(field: str, name: str, written: str) -> list[_Value]:
    """The places of an axis: values of a control, or presets, as people write them.

    Values are separated by commas, slashes, semicolons or lines, and may be ranges such as
    `0.2 to 1.4 in 5 steps`, both ends included. Raises `InvalidGrid`.
    """
    if not name:
        return _NOTHING
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
    labels = [_label(value) for value in read]
    _refuse_twice(field, control.called, labels)
    return [
        _Value(((control.label, label),), {name: value})
        for label, value in zip(labels, read, strict=True)
    ]


def _preset_values(field: str, items: Sequence[str]) -> list[_Value]:
    by_name = {name.lower(): name for name in PRESETS}
    if not items:
        raise InvalidGrid(field, message("grid.choose_presets", known=", ".join(PRESETS)))
    for item in items:
        if item.lower() not in by_name:
            known = ", ".join(PRESETS)
            raise InvalidGrid(field, message("grid.no_preset", name=quoted(item), known=known))
    names = [by_name[item.lower()] for item in items]
    _refuse_twice(field, message("grid.presets"), names)
    return [_Value(((say("panel.preset"), name),), dict(PRESETS[name])) for name in names]


def _read_item(field: str, control: Control, item: str) -> list[Any]:
    """The value or the values of a range that one item stands for."""
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
    values = [first + (last - first) * step / (steps - 1) for step in range(steps)]
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
    except ContradictoryControls:  # with the others' defaults, which are not those of the cells
        return int(float(written))
    except InvalidControl as error:
        raise InvalidGrid(field, error.message) from None


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def suggestion(name: str) -> str:
    """Values to begin with, as they are written."""
    if name in SUGGESTIONS:
        return SUGGESTIONS[name]
    control = AXES[name]
    if control.kind == "flag":
        return "off, on"
    if control.kind == "choice":
        return ", ".join(control.choices)
    return f"{control.minimum:g} to {control.maximum:.10g} in 4 steps"


# ---- the whole


def make_grid(
    prompt: str,
    placeholders: Mapping[str, Sequence[str]] | None,
    rows: tuple[str, str],
    columns: tuple[str, str],
    controls: Mapping[str, Any],
    *,
    seed: int,
    same_seed: bool,
) -> Grid:
    """The comparison of `prompt` under `controls`; raises `InvalidGrid`.

    `placeholders` are the values of each as lines, None where the prompt is no template. `rows` and
    `columns` are the name of a control, `preset` or nothing, and its values as written. Seeds go
    from `seed` upwards where the cells' are to differ, unless an axis sets them.
    """
    _refuse_unreadable(prompt, placeholders or {})
    if not prompt.strip():
        raise InvalidGrid("prompt", message("grid.no_prompt"))
    prompts, prompt_headings = _prompts(prompt, placeholders)
    down = axis_values("rows", *rows)
    across = axis_values("columns", *columns)
    both = down[0].settings.keys() & across[0].settings.keys()
    if both:
        shared = listed(*(message(f"control.{name}.label") for name in AXES if name in both))
        raise InvalidGrid("columns", message("grid.both_axes", controls=shared))
    count = len(prompts) * len(down) * len(across)
    if count > MAX_CELLS:
        raise _too_many(count, [len(prompts), len(down), len(across)])
    grid_rows = list(itertools.product(range(len(prompts)), down))
    cells: list[Cell] = []
    for (row, (which, one)), (column, other) in itertools.product(
        enumerate(grid_rows), enumerate(across)
    ):
        own_seed = seed if same_seed else (seed + len(cells)) % (MAX_SEED + 1)
        settings = {"seed": own_seed, **one.settings, **other.settings}
        cells.append(_cell(row, column, which, controls, settings))
    if all(cell.message for cell in cells):
        assert cells[0].message is not None
        raise InvalidGrid("controls", cells[0].message)
    return Grid(
        tuple(prompt_headings[which] + one.heading for which, one in grid_rows),
        tuple(other.heading for other in across),
        tuple(prompts),
        tuple(cells),
    )


def _prompts(
    prompt: str, placeholders: Mapping[str, Sequence[str]] | None
) -> tuple[list[str], list[Heading]]:
    """The prompts and how each is called."""
    if placeholders is None:
        return [prompt], [()]
    texts, places = parse_template(prompt)
    names = list(dict.fromkeys(places))
    values = [placeholder_values(name, placeholders.get(name, ())) for name in names]
    count = math.prod(len(one) for one in values)
    if count > MAX_CELLS:
        raise _too_many(count, [len(one) for one in values])
    prompts: list[str] = []
    headings: list[Heading] = []
    for combination in itertools.product(*values):
        filled = dict(zip(names, combination, strict=True))
        prompts.append(_fill(texts, places, filled))
        headings.append(tuple(filled.items()))
    return prompts, headings


def _cell(
    row: int, column: int, prompt: int, controls: Mapping[str, Any], settings: dict[str, Any]
) -> Cell:
    try:
        params = make_params({**controls, **settings, **OF_A_CELL})
    except ContradictoryControls as error:
        return Cell(row, column, prompt, settings, None, error.message)
    except InvalidControl as error:
        field = "length" if error.name == "max_new_tokens" else "controls"
        raise InvalidGrid(field, error.message) from None
    settings = {**settings, "max_new_tokens": params.max_new_tokens}
    return Cell(row, column, prompt, settings, params)


def _too_many(count: int, factors: Sequence[int]) -> InvalidGrid:
    product = f" {TIMES} ".join(f"{factor:,}" for factor in factors if factor > 1)
    shown = product if product == f"{count:,}" else f"{product} = {count:,}"
    return InvalidGrid("size", message("grid.too_many", cells=shown, most=MAX_CELLS))


def _refuse_twice(field: str, called: str | Message, values: Sequence[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            why = message("grid.twice", called=called, value=quoted(value))
            raise InvalidGrid(field, why)
        seen.add(value)


def _refuse_unreadable(prompt: str, placeholders: Mapping[str, Sequence[str]]) -> None:
    fields = {"prompt": [prompt]}
    fields |= {f"values of {name}": [name, *lines] for name, lines in placeholders.items()}
    for field, texts in fields.items():
        if not all(map(_is_readable, texts)):
            name = field.encode(errors="replace").decode()
            raise InvalidGrid(name, message("grid.surrogate"))


def _is_readable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- figures


def distinct_words(text: str) -> float | None:
    """Distinct words a word, capitals aside: 1 where none comes twice, None where there is none."""
    words = [word.lower() for word in _WORDS.findall(text)]
    return len(set(words)) / len(words) if words else None
