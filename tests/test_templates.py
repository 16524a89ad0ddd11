"""Templates of a comparison: placeholders, their values and combinations."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.client.prompt import MAX_PROMPT_CHARACTERS
from gptj_demo.ui.grid_errors import InvalidGrid
from gptj_demo.ui.templates import (
    MAX_PLACES,
    MAX_TEMPLATE_CHARACTERS,
    parse_template,
    placeholder_values,
)
from tests.grids import grid_of

LETTERS = string.ascii_letters + " _0123456789äß漢"
NAMES = st.text(LETTERS, min_size=1, max_size=40).filter(str.strip)


@given(st.text())
def test_doubled_braces_are_plain_text(text: str) -> None:
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert parse_template(doubled) == ([text], [])


@given(st.lists(st.tuples(st.text(), NAMES), max_size=5), st.text())
def test_a_template_is_parsed_into_its_texts_and_names(
    parts: list[tuple[str, str]], last: str
) -> None:
    def quote(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    written = "".join(f"{quote(text)}{{{name}}}" for text, name in parts) + quote(last)
    texts, names = parse_template(written)
    assert texts == [text for text, _ in parts] + [last]
    assert names == [name.strip() for _, name in parts]


@given(st.text("{}ab \n", max_size=30))
def test_any_template_is_parsed_or_refused_with_a_message(template: str) -> None:
    read = refusal = None
    try:
        read = parse_template(template)
    except InvalidGrid as wrong:
        refusal = wrong
    if read is not None:
        texts, names = read
        assert len(texts) == len(names) + 1
    else:
        assert refusal is not None
        assert refusal.field == "prompt"
        assert str(refusal).endswith(".")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {b", "The brace { at character 3 of the template is never closed. Write {{"),
        ("a b}", "The brace } at character 4 of the template is never opened. Write }}"),
        ("{{a}", "The brace } at character 4"),
        ("{}", "needs a name between its braces, such as {animal}. Write {{}}"),
        ("{a\nb}", "A placeholder's name is one line of at most 40 characters"),
        ("{" + "x" * 41 + "}", "A placeholder's name is one line of at most 40 characters"),
        ("{a\u202eb}", r'"a\u202eb"'),
    ],
)
def test_an_invalid_template_is_refused_with_the_reason(template: str, words: str) -> None:
    with pytest.raises(InvalidGrid, match=re.escape(words)):
        parse_template(template)


def test_a_prompt_of_any_length_can_be_a_template() -> None:
    braces = "{{" * MAX_PROMPT_CHARACTERS
    assert parse_template(braces) == (["{" * MAX_PROMPT_CHARACTERS], [])


def test_a_template_has_a_limited_length() -> None:
    parse_template("{" * MAX_TEMPLATE_CHARACTERS)
    with pytest.raises(InvalidGrid, match="has 500,001 characters; at most 500,000") as wrong:
        parse_template("{" * (MAX_TEMPLATE_CHARACTERS + 1))
    assert wrong.value.field == "prompt"


def test_a_template_has_a_limited_number_of_placeholders() -> None:
    assert len(parse_template("{a}" * MAX_PLACES)[1]) == MAX_PLACES
    with pytest.raises(InvalidGrid, match="more than 1,000 placeholders") as wrong:
        parse_template("{a}" * (MAX_PLACES + 1))
    assert wrong.value.field == "prompt"


def test_values_of_many_placeholders_are_refused_with_a_short_sentence() -> None:
    names = [f"p{number}" for number in range(MAX_PLACES)]
    values = {name: [str(value) for value in range(100)] for name in names}
    values["p0"] = ["0"]
    with pytest.raises(InvalidGrid, match="That is 100 cells; at most 36") as wrong:
        grid_of("".join(f"{{{name}}}" for name in names), values)
    assert wrong.value.field == "size"
    values = {name: [str(value) for value in range(2 * 10**5)] for name in names[:2]}
    with pytest.raises(InvalidGrid, match="That is 200,000 cells; at most 36"):
        grid_of("{p0}{p1}", values)


def test_each_line_is_a_value_and_may_escape_line_breaks() -> None:
    assert placeholder_values("a", ["one", "", " two", r"three\nfour"]) == [
        "one",
        " two",
        "three\nfour",
    ]


def test_a_placeholder_without_values_is_refused_by_name() -> None:
    with pytest.raises(InvalidGrid, match=r"\{animal\} has no values yet") as wrong:
        grid_of("A {animal}", {"animal": ["", " "]})
    assert wrong.value.field == "values of animal"


def test_placeholders_combine_in_the_order_of_the_template() -> None:
    grid = grid_of("{b} {a} {b}", {"a": ["1", "2"], "b": ["x", "{a}"]})
    assert grid.prompts == ("x 1 x", "x 2 x", "{a} 1 {a}", "{a} 2 {a}")
    assert grid.rows[1] == (("b", "x"), ("a", "2"))
    assert [(cell.row, cell.column, cell.prompt) for cell in grid.cells] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
    ]


def test_a_template_without_placeholders_may_contain_braces() -> None:
    assert grid_of("{a} {{b}} {").prompts == ("{a} {{b}} {",)
