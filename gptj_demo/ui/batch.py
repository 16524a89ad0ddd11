"""A batch: one continuation for each row of a visitor's file, beside the grid of Compare.

The file, its results and the remaining rows are kept in the visitor's browser
(`assets/views/compare/batch.js`), which sends the rows in parts. A part runs like the cells of a
grid, so a batch gets no more slots than any visitor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from gptj_demo.client import RequestRefused, Worker
from gptj_demo.client.pacing import GRID
from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.client.visitor import by_session
from gptj_demo.control_values import InvalidControl, make_params
from gptj_demo.sampling import MAX_SEED, SamplingParams, seed_after
from gptj_demo.texts import Message, message, quoted
from gptj_demo.ui.axes import OF_A_CELL, panel_controls
from gptj_demo.ui.comparison import Comparison
from gptj_demo.ui.component import LogHTML
from gptj_demo.ui.generation import read_fields, record
from gptj_demo.ui.grid_errors import InvalidGrid
from gptj_demo.ui.rows import MAX_COLUMNS, MAX_FILE_BYTES, MAX_ROWS, InvalidRows, read_rows
from gptj_demo.ui.stops import Stops
from gptj_demo.ui.templates import check_length, fill, parse_template, prompt_length

MAX_PART_CHARACTERS = 2_000_000
"""All prompts of a part together, which are tokenized one by one; the page sends no more."""
MOST_NAMED = 20
"""The most columns that a message lists."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch: a cell for each of `rows`, which are numbers in the file and values.

    A prompt and its settings are made when its turn comes: a thousand of them take megabytes.
    `columns` are the places of the columns in the values; `seed` is that of the file's first row.
    """

    texts: list[str]
    places: list[str]
    columns: dict[str, int]
    rows: list[tuple[int, list[Any]]]
    shared: SamplingParams
    seed: int

    def __len__(self) -> int:
        return len(self.rows)

    def prompt(self, cell: int) -> str:
        """The prompt of a cell."""
        return fill(self.texts, self.places, self.values(cell))

    def params(self, cell: int) -> SamplingParams | Message:
        """The settings of a cell, or why its prompt is too long."""
        try:
            check_length(self.texts, self.places, self.values(cell))
        except InvalidGrid as wrong:
            return wrong.message
        seed = seed_after(self.seed, self.rows[cell][0])
        return self.shared.model_copy(update={"seed": seed})

    def values(self, cell: int) -> dict[str, str]:
        """The value of each placeholder in a cell; raises `InvalidGrid` if it has none."""
        number, row = self.rows[cell]
        values = {}
        for name, column in self.columns.items():
            value = row[column] if column < len(row) else None
            if not isinstance(value, str):
                why = message("rows.no_value", row=number + 1, column=quoted(name))
                raise InvalidGrid("file", why)
            values[name] = value
        return values


class Batch(LogHTML):
    """Template, file and results. Event: `run` (id, a part of a batch), with the log as output.

    `server_functions` must hold `read_file(file)`, `plan_batch(form)` and `stop_batch(id)`, which
    the script calls.
    """

    def __init__(self, **options: Any) -> None:
        limits = {
            "most_bytes": MAX_FILE_BYTES,
            "most_seed": MAX_SEED,
            "most_characters": MAX_PART_CHARACTERS,
        }
        controls = panel_controls()
        super().__init__("views/compare/batch", ("run",), controls=controls, **limits, **options)


# ---- parts of a batch


def make_part(part: Mapping[str, Any]) -> Part:
    """A part of a batch, all of whose rows can be sent.

    `part` is untrusted: `template`, the `names` of the columns, `rows` as pairs of a number and the
    texts in these columns, `controls` as the page has them, and the `seed` of row 0; seeds count up
    from row to row. Raises `InvalidGrid`.
    """
    texts, places = _parse(str(part.get("template") or ""))
    params = _read_controls(part.get("controls"))
    names, rows = _read_columns(part.get("names")), _list(part.get("rows"))
    if len(rows) > MAX_ROWS:
        raise InvalidGrid("file", message("rows.too_many", most=MAX_ROWS))
    _require_columns(places, names)
    seed = part.get("seed")
    columns = {name: names.index(name) for name in dict.fromkeys(places)}
    read = [_read_row(row) for row in rows]
    found = Part(texts, places, columns, read, params, seed if type(seed) is int else 0)
    lengths = (prompt_length(texts, places, found.values(cell)) for cell in range(len(found)))
    # a row that is too long for a prompt ends with an error, and none of its text is tokenized
    if (characters := sum(n for n in lengths if n <= MAX_PROMPT_CHARACTERS)) > MAX_PART_CHARACTERS:
        most = {"characters": characters, "most": MAX_PART_CHARACTERS}
        raise InvalidGrid("file", message("batch.too_long", **most))
    return found


def preview(texts: Sequence[str], places: Sequence[str], values: Mapping[str, str]) -> str:
    """The prompt of a row, empty if its values make it too long: only that row fails then.

    Raises `InvalidGrid` if the template is too long for every row.
    """
    check_length(texts, places, dict.fromkeys(places, ""))
    is_too_long = prompt_length(texts, places, values) > MAX_PROMPT_CHARACTERS
    return "" if is_too_long else fill(texts, places, values)


def _parse(template: str) -> tuple[list[str], list[str]]:
    if not template.strip():
        raise InvalidGrid("prompt", message("batch.no_template"))
    texts, places = parse_template(template)
    if not places:
        raise InvalidGrid("prompt", message("batch.no_placeholder"))
    return texts, places


def _read_columns(written: Any) -> list[str]:
    """The names of a file's columns."""
    columns = _list(written)
    if len(columns) > MAX_COLUMNS:
        raise InvalidGrid("file", message("rows.many_columns", most=MAX_COLUMNS))
    for name in columns:
        if not isinstance(name, str):
            raise InvalidGrid("file", message("batch.no_column_name", value=quoted(name)))
    return columns


def _require_columns(places: Sequence[str], columns: Sequence[str]) -> None:
    present = set(columns)
    for name in places:
        if name not in present:
            known = ", ".join(map(quoted, columns[:MOST_NAMED]))
            why = message("batch.no_column", column=quoted(name), columns=known)
            raise InvalidGrid("prompt", why)


def _read_controls(written: Any) -> SamplingParams:
    try:
        controls = read_fields(written if isinstance(written, dict) else {})
        return make_params({**controls, **OF_A_CELL})
    except InvalidControl as error:
        raise InvalidGrid("controls", error.message) from None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read_row(row: Any) -> tuple[int, list[Any]]:
    """A row's number, from 0, and its values."""
    number, values = (*_list(row), None, None)[:2]
    if type(number) is not int or not 0 <= number < MAX_ROWS or not isinstance(values, list):
        raise InvalidGrid("file", message("refused.broken"))
    return number, values


# ---- the view


def build_batch(worker: Worker) -> None:
    """Lay out the view's part for files in the present Blocks and connect it to the worker."""
    stops = Stops()

    async def read_file(file: Any) -> dict[str, Any]:
        """The rows of a file, or an error message; `file` has its `name` and `text`."""
        file = file if isinstance(file, dict) else {}
        name, text = str(file.get("name") or ""), str(file.get("text") or "")
        try:
            return (await asyncio.to_thread(read_rows, name, text)).described()
        except InvalidRows as wrong:
            return wrong.message.described()

    async def plan_batch(form: Any) -> dict[str, Any]:
        """A batch's placeholders, first prompt and numbers of tokens, or an error message."""
        form = form if isinstance(form, dict) else {}
        answer: dict[str, Any] = {"placeholders": []}
        try:
            texts, places = _parse(str(form.get("template") or ""))
            answer["placeholders"] = list(dict.fromkeys(places))
            columns = _read_columns(form.get("columns"))
            if not columns:
                return answer
            _require_columns(places, columns)
            params = _read_controls(form.get("controls"))
            values = dict(zip(columns, map(str, _list(form.get("values"))), strict=False))
            first = preview(texts, places, {name: values.get(name, "") for name in places})
            return answer | {
                "prompt": first,
                "prompt_tokens": await worker.count_tokens(first),
                "tokens": params.max_new_tokens * params.candidates,
                "at_once": worker.slots_per_visitor,
                "waiting": worker.streams_waiting,
            }
        except InvalidGrid as wrong:
            return answer | {"field": wrong.field, **wrong.message.described()}
        except RequestRefused as refusal:
            return answer | {"field": "prompt", **refusal.message.described()}

    async def stop_batch(request_id: Any) -> bool:
        return stops.stop(request_id)

    async def run(
        asked: Mapping[str, Any], request_id: str, browser: gr.Request
    ) -> AsyncGenerator[str, None]:
        part = await asyncio.to_thread(make_part, asked)
        comparison = Comparison(worker, part, by_session(browser), is_patient=True)
        last_sent = 0.0
        with stops.stopped_by(request_id, comparison.stop):
            async with aclosing(comparison.updates()) as updates:
                async for records in updates:
                    ended = [_describe(comparison, part, one) for one in records if "end" in one]
                    if not ended and time.monotonic() - last_sent < GRID.sign_of_life:
                        continue
                    last_sent = time.monotonic()
                    tokens = sum(outcome["tokens"] for outcome in comparison.outcomes)
                    yield record("rows", tokens=tokens, cells=ended)
        yield record("end")

    functions = [read_file, plan_batch, stop_batch]
    batch = Batch(elem_id="batch", server_functions=functions)
    batch.write_log(batch.run, run)


def _describe(comparison: Comparison, part: Part, ended: Mapping[str, Any]) -> dict[str, Any]:
    """A row that has ended, as JSON."""
    cell = ended["cell"]
    number, _ = part.rows[cell]
    return {"row": number, "text": comparison.outcomes[cell]["text"], "end": ended["end"]}
