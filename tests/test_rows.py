"""Files of rows: CSV and JSON Lines are read as they are meant, or refused with a sentence."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptj_demo.ui.rows import MAX_ROWS, InvalidRows, read_rows

FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAMES = st.lists(st.text("abcäß漢-_ ", min_size=1).filter(str.strip), min_size=2, max_size=5)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.none() | st.booleans() | NUMBERS | FIELDS | st.lists(FIELDS, max_size=2)


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@settings(max_examples=50)
@given(st.data(), NAMES.map(lambda names: list(dict.fromkeys(map(str.strip, names)))))
def test_a_csv_file_is_read_as_python_writes_it(data: st.DataObject, names: list[str]) -> None:
    if len(names) < 2:
        return
    row = st.lists(FIELDS, min_size=len(names), max_size=len(names))
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    separator = data.draw(st.sampled_from(",;\t"))
    line_end = data.draw(st.sampled_from(["\n", "\r\n"]))
    quoting = csv.QUOTE_ALL
    if line_end == "\r\n":  # with the other one, Python quotes no carriage return
        quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=line_end, quoting=quoting)
    writer.writerow(names)
    writer.writerows(rows)
    if quoting == csv.QUOTE_MINIMAL:  # a line of spaces is left out as a blank one
        rows = [row for row in rows if separator.join(row).strip(" ")]
    if not rows:
        return
    read = read_rows("rows.csv", file.getvalue())
    assert (read.separator, read.columns) == (separator, tuple(names))
    assert [list(row) for row in read.values] == [[normal(field) for field in row] for row in rows]
    # a row in its written form reads back unchanged
    again = read_rows("rows.csv", "\n".join([read.header, *read.written]))
    assert again.values == read.values


@settings(max_examples=50)
@given(st.lists(st.dictionaries(FIELDS, JSON_VALUES, max_size=4), min_size=1, max_size=4))
def test_json_lines_keep_their_texts_and_numbers(objects: list[dict[str, Any]]) -> None:
    written = [json.dumps(one, ensure_ascii=False) for one in objects]
    read = read_rows("rows.jsonl", "\r\n".join([*written, ""]))
    assert list(read.written) == written
    assert set(read.columns) == {name for one in objects for name in one}
    for one, values in zip(objects, read.values, strict=True):
        for name, value in zip(read.columns, values, strict=True):
            meant = one.get(name)
            if isinstance(meant, str):
                assert value == normal(meant)
            elif isinstance(meant, bool | int | float):
                assert value == json.dumps(meant)
            else:
                assert value is None


@settings(max_examples=50)
@given(st.text(max_size=200), st.sampled_from(["a.csv", "a.jsonl", "a"]))
def test_any_text_is_read_or_refused_with_a_sentence(text: str, name: str) -> None:
    try:
        json.dumps(read_rows(name, text).described(), ensure_ascii=False).encode()
    except InvalidRows as wrong:
        json.dumps(wrong.message.described(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.csv", " \n", "The file is empty."),
        ("a.csv", "a,b\n", "The file has a header, but no rows."),
        ("a.csv", "a,b\n1,2\n\n3\n", "Row 2, on line 4 of the file, has 1 fields, but the header"),
        ("a.csv", 'a,b\n"1\n2",2\n3,4,5', "Row 2, on line 4 of the file, has 3 fields, but"),
        ("a.csv", 'a,b\n1,2\n"3,4\n5,6\n', "The record that begins on line 3 is not valid CSV"),
        ("a.csv", 'a,b\n"1"x,2\n', "The record that begins on line 2 is not valid CSV"),
        ("a.csv", "a,b,a\n1,2,3", 'Two columns are called "a".'),
        ("a.csv", ",".join(map(str, range(201))) + "\n", "more than 200 columns"),
        ("a.csv", "a\n" + "x\n" * 1001, "more than 1,000 rows"),
        ("a.csv", "a\n\ud800", "not a text in UTF-8"),
        ("a.jsonl", '{"a": "b"}\n' * 1001, "more than 1,000 rows"),
        ("a.jsonl", '{"a": 1}\n\n["a"]', "Row 2, on line 3 of the file, is not a JSON object."),
        ("a.jsonl", '{"a": 1}\n{"a": NaN}', "Row 2, on line 2 of the file, is not a JSON object."),
        ("a.jsonl", '{"a": ' + "[" * 100_000, "Row 1, on line 1 of the file, is not a JSON object"),
        ("a", '{"a": "\\ud800"}', "Row 1, on line 1 of the file, contains an unpaired surrogate"),
        ("a", '{"\\udc00": "x"}', "Row 1, on line 1 of the file, contains an unpaired surrogate"),
        ("a", "".join(f'{{"{i}": 1}}\n' for i in range(201)), "more than 200 columns"),
    ],
)  # fmt: skip
def test_an_unreadable_file_is_refused_with_the_reason(name: str, text: str, sentence: str) -> None:
    with pytest.raises(InvalidRows) as refused:
        read_rows(name, text)
    assert sentence in str(refused.value)


def test_the_format_is_detected_from_the_file_name_or_the_text() -> None:
    line = '{"a": "b"}'
    assert read_rows("rows.jsonl", line).form == "jsonl"
    assert read_rows("rows.txt", line).form == "jsonl"
    assert read_rows("rows.csv", f"{line}\nx").form == "csv"
    assert read_rows("rows.txt", "a;b\nc;d").values == (("c", "d"),)


def test_a_thousand_rows_and_names_of_prototypes_are_read() -> None:
    assert len(read_rows("a.csv", "a\n" + "x\n" * MAX_ROWS).written) == MAX_ROWS
    read = read_rows("a.jsonl", '{"__proto__": "x", "constructor": 1.50}')
    assert read.columns == ("__proto__", "constructor")
    assert read.values == (("x", "1.50"),)
