"""Reads a visitor's file of rows, which fill the placeholders of a template: CSV or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from gptj_demo.texts import MessageError, message, quoted

MAX_ROWS = 1000
MAX_COLUMNS = 200
MAX_FILE_BYTES = 2 * 2**20
"""With its quotes and line ends escaped, such a file fits into the body of a request."""
SEPARATORS = ",;\t"
_JSON_SPACE = " \t\r"
_SURROGATE = re.compile("[\ud800-\udfff]")


class InvalidRows(MessageError, ValueError):
    """The file cannot be read; the message names the row or column."""

    def __init__(self, code: str, **values: Any) -> None:
        super().__init__(message(code, **values))


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file, each as it is `written` there and as the `values` of its columns.

    `header` is the header line of a CSV file as written. A value is None where a row of JSON Lines
    has neither a text, a number nor a truth value in a column.
    """

    form: Literal["csv", "jsonl"]
    separator: str
    header: str
    columns: tuple[str, ...]
    written: tuple[str, ...]
    values: tuple[tuple[str | None, ...], ...]

    def described(self) -> dict[str, Any]:
        """The rows as JSON, without objects that have a visitor's names as keys."""
        return {
            "form": self.form,
            "separator": self.separator,
            "header": self.header,
            "columns": self.columns,
            "rows": [
                {"written": written, "values": values}
                for written, values in zip(self.written, self.values, strict=True)
            ],
        }


def read_rows(name: str, text: str) -> Rows:
    """The rows of a file's text; its name decides between the forms. Raises `InvalidRows`."""
    if not text.strip():
        raise InvalidRows("rows.empty")
    if _SURROGATE.search(text):
        raise InvalidRows("rows.no_text")
    is_table = re.search(r"\.[ct]sv$", name, re.IGNORECASE) is not None
    is_json = re.search(r"\.(jsonl?|ndjson)$", name, re.IGNORECASE) is not None
    if is_json or (not is_table and text.lstrip().startswith("{")):
        return _read_json_lines(text)
    return _read_csv(text)


# ---- CSV


def _read_csv(text: str) -> Rows:
    lines = list(io.StringIO(text, newline=""))
    separator = max(SEPARATORS, key=lambda one: _count_columns(lines, one))
    records = _records(lines, separator)
    header, names, _ = next(records)
    columns = tuple(name.strip() for name in names)
    if len(columns) > MAX_COLUMNS:
        raise InvalidRows("rows.many_columns", most=MAX_COLUMNS)
    for place, column in enumerate(columns):
        if column and column in columns[:place]:
            raise InvalidRows("rows.same_column", column=quoted(column))
    written: list[str] = []
    values: list[tuple[str, ...]] = []
    for record, fields, line in records:
        _check_count(len(written) + 1)
        if len(fields) != len(columns):
            raise InvalidRows(
                "rows.ragged",
                row=len(written) + 1,
                line=line,
                fields=len(fields),
                columns=len(columns),
            )
        written.append(record)
        values.append(tuple(field.replace("\r\n", "\n").replace("\r", "\n") for field in fields))
    if not written:
        raise InvalidRows("rows.only_header")
    return Rows("csv", separator, header, columns, tuple(written), tuple(values))


def _records(lines: list[str], separator: str) -> Iterator[tuple[str, list[str], int]]:
    """Each record that is not blank: its text without the line end, its fields, its line number."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    begin = 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise InvalidRows("rows.no_csv", line=begin + 1, most=csv.field_size_limit()) from None
        written = "".join(lines[begin : reader.line_num]).rstrip("\r\n")
        if written.strip(" "):
            yield written, fields, begin + 1
        begin = reader.line_num


def _count_columns(lines: list[str], separator: str) -> int:
    try:
        return len(next(_records(lines, separator))[1])
    except (InvalidRows, StopIteration):
        return 0


# ---- JSON Lines


def _read_json_lines(text: str) -> Rows:
    written: list[str] = []
    objects: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        row = line.strip(_JSON_SPACE)
        if not row:
            continue
        _check_count(len(written) + 1)
        found = _parse(row)
        if not isinstance(found, dict):
            raise InvalidRows("rows.no_object", row=len(written) + 1, line=number)
        if any(map(_SURROGATE.search, [*found, *filter(None, map(_text_of, found.values()))])):
            raise InvalidRows("rows.surrogate", row=len(written) + 1, line=number)
        names |= dict.fromkeys(found)
        if len(names) > MAX_COLUMNS:
            raise InvalidRows("rows.many_columns", most=MAX_COLUMNS)
        written.append(row)
        objects.append(found)
    columns = tuple(names)
    values = tuple(tuple(_text_of(one.get(name)) for name in columns) for one in objects)
    return Rows("jsonl", "", "", columns, tuple(written), values)


def _parse(row: str) -> Any:
    """A row as JSON, its numbers as they are written; None if it is not JSON."""
    try:
        return json.loads(row, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and infinities, which JSON lacks


def _text_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n")
    return None


def _check_count(count: int) -> None:
    if count > MAX_ROWS:
        raise InvalidRows("rows.too_many", most=MAX_ROWS)
