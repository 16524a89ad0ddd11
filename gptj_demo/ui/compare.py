"""The Compare view: a grid of prompts and settings with cells that all stream at once.

Each cell is a request of its own under the visitor's name, so the worker's queue treats other
visitors fairly. `grid.py` computes the cells. Form, grid and results live in the visitor's browser:
`assets/views/compare/`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr
from gradio.events import api

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.pacing import GRID, Repeats
from gptj_demo.client.visitor import by_address, by_session
from gptj_demo.control_values import InvalidControl, make_params
from gptj_demo.sampling import MAX_SEED, PRESETS
from gptj_demo.texts import Message
from gptj_demo.ui.axes import AXES, PRESET, Heading, panel_controls, suggestion
from gptj_demo.ui.batch import build_batch
from gptj_demo.ui.comparison import Comparison
from gptj_demo.ui.component import LogHTML
from gptj_demo.ui.generation import (
    read_fields,
    record,
)
from gptj_demo.ui.grid import Cell, Grid, make_grid
from gptj_demo.ui.grid_errors import MAX_CELLS, InvalidGrid
from gptj_demo.ui.inputs import require_lists, require_object, require_string
from gptj_demo.ui.stops import Stops
from gptj_demo.ui.templates import parse_template


class Compare(LogHTML):
    """Form, grid and results. Event: `run` (id, form), with the log as output.

    `server_functions` must hold `plan(form)` and `stop(id)`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        axes = [{"name": PRESET, "group": "", "suggestion": suggestion(PRESET)}]
        axes += [
            {"name": one.name, "group": one.group, "suggestion": suggestion(one.name)}
            for one in AXES.values()
        ]
        super().__init__(
            "views/compare/compare",
            ("run",),
            axes=axes,
            presets=PRESETS,
            controls=panel_controls(),
            **options,
        )


# ---- the form


def read_form(form: Any, seed: int) -> Grid:
    """The comparison that the page's form describes; `seed` is used if the form has none.

    The form is untrusted data. Raises `InvalidGrid`.
    """
    form = form if isinstance(form, dict) else {}
    placeholders = None
    if form.get("is_template"):
        pairs = form.get("placeholders")
        pairs = pairs if isinstance(pairs, list) else []
        placeholders = {
            str(pair[0]): str(pair[1]).split("\n")
            for pair in pairs
            if isinstance(pair, list) and len(pair) == 2
        }
    written = form.get("controls")
    written = dict(written) if isinstance(written, dict) else {}
    rows, columns = _axis(form.get("rows")), _axis(form.get("columns"))
    if "length" in form and "max_new_tokens" not in (rows[0], columns[0]):
        written["max_new_tokens"] = form["length"]
    try:
        controls = read_fields(written)
        own_seed = make_params({"seed": controls.get("seed")}).seed
    except InvalidControl as error:
        raise InvalidGrid("controls", error.message) from None
    return make_grid(
        str(form.get("prompt") or ""),
        placeholders,
        rows,
        columns,
        controls,
        seed=seed if own_seed is None else own_seed,
        same_seed=form.get("seeds") != "different",
    )


def _axis(written: Any) -> tuple[str, str]:
    axis = written if isinstance(written, dict) else {}
    return str(axis.get("control") or ""), str(axis.get("values") or "")


def _random_seed() -> int:
    return secrets.randbelow(MAX_SEED + 1)


def _for_page(part: str | Message) -> Any:
    return part.json() if isinstance(part, Message) else part


def _describe_cell(cell: Cell) -> dict[str, Any]:
    return {
        "row": cell.row,
        "column": cell.column,
        "prompt": cell.prompt,
        "settings": cell.settings,
    }


def _describe_grid(grid: Grid, written: Callable[[str | Message], Any]) -> dict[str, Any]:
    """A grid as JSON; `written` turns a part of a heading into JSON."""

    def headings(of: Sequence[Heading]) -> list[list[list[Any]]]:
        return [[[written(label), written(value)] for label, value in one] for one in of]

    return {
        "rows": headings(grid.rows),
        "columns": headings(grid.columns),
        "prompts": grid.prompts,
        "cells": [_describe_cell(cell) for cell in grid.cells],
    }


# ---- the view and its name in the API


def build_compare(worker: Worker) -> None:
    """Lay out the view in the present Blocks and connect it to the worker."""
    stops = Stops()

    async def plan(form: Any) -> dict[str, Any]:
        """The placeholders of a comparison, and its size or an error message."""
        answer: dict[str, Any] = {"placeholders": []}
        try:
            if isinstance(form, dict) and form.get("is_template"):
                names = parse_template(str(form.get("prompt") or ""))[1]
                answer["placeholders"] = list(dict.fromkeys(names))[:MAX_CELLS]
            grid = read_form(form, seed=0)
            longest = max(grid.prompts, key=len)
            return answer | {
                "cells": len(grid.cells),
                "rows": len(grid.rows),
                "columns": len(grid.columns),
                "contradictory": sum(cell.params is None for cell in grid.cells),
                "tokens": grid.most_tokens,
                "prompt_tokens": await worker.count_tokens(longest),
                "at_once": worker.slots_per_visitor,
                "running": worker.streams_running,
                "waiting": worker.streams_waiting,
            }
        except InvalidGrid as wrong:
            return answer | {"field": wrong.field, **wrong.message.described()}
        except RequestRefused as refusal:
            return answer | {"field": "prompt", **refusal.message.described()}

    async def stop(request_id: Any) -> bool:
        return stops.stop(request_id)

    async def run(
        asked: Mapping[str, Any], request_id: str, browser: gr.Request
    ) -> AsyncGenerator[str, None]:
        grid = read_form(asked.get("form"), _random_seed())
        comparison = Comparison(worker, grid, by_session(browser))
        last_sent = time.monotonic()
        with stops.stopped_by(request_id, comparison.stop):
            yield record("grid", **_describe_grid(grid, _for_page))
            async with aclosing(comparison.updates()) as updates:
                async for records in updates:
                    if not records and time.monotonic() - last_sent < GRID.sign_of_life:
                        continue
                    last_sent = time.monotonic()
                    yield record("cells", cells=records) if records else "\n"  # keep-alive
        yield record("end")

    build_batch(worker)
    compare = Compare(elem_id="compare", server_functions=[plan, stop])
    compare.write_log(compare.run, run)
    api(_compare(worker), api_name="compare", concurrency_limit=None)


def _compare(worker: Worker) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    async def compare(
        caller: gr.Request,
        prompt: str,
        columns: str = "",
        column_values: str = "",
        rows: str = "",
        row_values: str = "",
        placeholders: dict[str, list[str]] | None = None,
        same_seed: bool = True,
        controls: dict[str, Any] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Continue prompts under ranges of settings, all at once: at most 36 cells.

        Each update is the whole answer so far: rows and columns as lists of [label, value], the
        prompts, and the cells. A cell has row, column, prompt, settings, text and state; once
        it has ended also the reason, mean log-probability per token, share of distinct words, seed.

        prompt: The prompt. With placeholders it is a template: {name} is replaced by each value of
            that placeholder, {{ and }} are braces.
        columns: The control that varies over the columns, by its name in /generate, or preset.
        column_values: Its values, such as "0.2, 0.5, 0.8" or "0.2 to 1.4 in 5 steps".
        rows: The control that varies over the rows, or preset; optional.
        row_values: Its values.
        placeholders: The values of each placeholder; all combinations are used. If left out, braces
            are text.
        same_seed: Whether all cells have the same seed; otherwise seeds count up from cell to cell.
        controls: All other controls by their names in /generate, as JSON; the rest have defaults.
        """
        columns, column_values = columns or "", column_values or ""
        rows, row_values = rows or "", row_values or ""
        require_string(prompt=prompt, columns=columns, column_values=column_values)
        require_string(rows=rows, row_values=row_values)
        require_lists(placeholders=placeholders or {})
        require_object(controls=controls or {})
        try:
            given = dict(controls or {})
            seed = make_params({"seed": given.get("seed")}).seed
            grid = make_grid(
                prompt,
                placeholders or None,
                (rows, row_values),
                (columns, column_values),
                given,
                seed=_random_seed() if seed is None else seed,
                same_seed=same_seed,
            )
        except (InvalidGrid, InvalidControl) as wrong:
            raise gr.Error(str(wrong), print_exception=False) from None
        comparison = Comparison(worker, grid, by_address(caller))
        described = _describe_grid(grid, str)

        def so_far() -> dict[str, Any]:
            pairs = zip(described["cells"], comparison.outcomes, strict=True)
            return described | {"cells": [cell | outcome for cell, outcome in pairs]}

        repeats = Repeats()
        async with aclosing(comparison.updates()) as updates:
            async for records in updates:
                if repeats.is_due(len(records)):
                    yield so_far()
        yield so_far()

    return compare
