"""The cells of a comparison: prompts from a template, times values of controls.

Computed from a visitor's input before anything runs. Errors are `InvalidGrid`, which names the
field.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptj_demo.control_values import ContradictoryControls, InvalidControl, make_params
from gptj_demo.sampling import SamplingParams, seed_after
from gptj_demo.texts import Message, listed, message
from gptj_demo.ui.axes import AXES, OF_A_CELL, Heading, axis_values
from gptj_demo.ui.generation import BROKEN
from gptj_demo.ui.grid_errors import MAX_CELLS, InvalidGrid, too_many
from gptj_demo.ui.templates import fill, parse_template, placeholder_values

MAX_CHARACTERS = 400_000
"""All prompts of a comparison together: programs get them with each update."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One request of a comparison; `row` and `column` count from 0.

    `settings` are the controls in which cells may differ, by name. If they contradict each other,
    `params` is None and `message` says why.
    """

    row: int
    column: int
    prompt: int
    settings: dict[str, Any]
    params: SamplingParams | None
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """A comparison, row by row; a heading is empty if there is only one."""

    rows: tuple[Heading, ...]
    columns: tuple[Heading, ...]
    prompts: tuple[str, ...]
    cells: tuple[Cell, ...]

    def __len__(self) -> int:
        return len(self.cells)

    def prompt(self, cell: int) -> str:
        """The prompt of a cell."""
        return self.prompts[self.cells[cell].prompt]

    def params(self, cell: int) -> SamplingParams | Message:
        """The settings of a cell, or why it cannot run."""
        one = self.cells[cell]
        return one.params or one.message or BROKEN

    @property
    def most_tokens(self) -> int:
        """The tokens that all cells may write together."""
        asked = [cell.params for cell in self.cells if cell.params is not None]
        return sum(params.max_new_tokens * params.candidates for params in asked)


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

    `placeholders` maps each name to its values as lines; None means that the prompt is no template.
    `rows` and `columns` are the name of a control, `preset` or nothing, and its values as typed.
    Unless the cells share a seed or an axis sets it, seeds count up from `seed`.
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
        raise too_many(count, [len(prompts), len(down), len(across)])
    grid_rows = list(itertools.product(range(len(prompts)), down))
    cells: list[Cell] = []
    for (row, (which, one)), (column, other) in itertools.product(
        enumerate(grid_rows), enumerate(across)
    ):
        own_seed = seed if same_seed else seed_after(seed, len(cells))
        settings = {"seed": own_seed, **one.settings, **other.settings}
        cells.append(_cell(row, column, which, controls, settings))
    first = cells[0].message
    if first is not None and all(cell.message for cell in cells):
        raise InvalidGrid("controls", first)
    return Grid(
        tuple(prompt_headings[which] + one.heading for which, one in grid_rows),
        tuple(other.heading for other in across),
        tuple(prompts),
        tuple(cells),
    )


def _prompts(
    prompt: str, placeholders: Mapping[str, Sequence[str]] | None
) -> tuple[list[str], list[Heading]]:
    """The prompts and their labels."""
    if placeholders is None:
        return [prompt], [()]
    texts, places = parse_template(prompt)
    names = list(dict.fromkeys(places))
    values = [placeholder_values(name, placeholders.get(name, ())) for name in names]
    count = 1
    for place, one in enumerate(values, start=1):
        count *= len(one)
        if count > MAX_CELLS:  # the whole product can have more digits than Python writes
            raise too_many(count, [len(one) for one in values[:place]])
    prompts: list[str] = []
    headings: list[Heading] = []
    for combination in itertools.product(*values):
        filled = dict(zip(names, combination, strict=True))
        prompts.append(fill(texts, places, filled))
        headings.append(tuple(filled.items()))
        if (characters := sum(map(len, prompts))) > MAX_CHARACTERS:
            lengths = {"characters": characters, "most": MAX_CHARACTERS, "prompts": len(prompts)}
            raise InvalidGrid("prompt", message("grid.too_long", **lengths))
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
