"""Axes of a comparison and the grid of requests that they make."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.sampling import CONTROLS, MAX_SEED, PRESETS, SamplingParams
from gptj_demo.texts import message
from gptj_demo.ui.axes import AXES, PRESET, Heading, axis_values, suggestion
from gptj_demo.ui.compare import read_form
from gptj_demo.ui.grid_errors import MAX_CELLS, InvalidGrid
from tests.grids import grid_of

FIELDS = (
    "prompt", "is_template", "placeholders", "rows", "columns", "length", "seeds", "controls"
)  # fmt: skip
ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def values_of(name: str, written: str) -> list[Any]:
    """The settings that an axis goes through."""
    return [value.settings[name] for value in axis_values("rows", name, written)]


def words(heading: Heading) -> list[tuple[str, str]]:
    """A heading in English."""
    return [(str(label), str(value)) for label, value in heading]


def test_a_range_includes_both_ends_in_equal_steps() -> None:
    assert values_of("temperature", "0.2 to 1.4 in 5 steps") == [0.2, 0.5, 0.8, 1.1, 1.4]
    assert values_of("temperature", "1 to 0 in 3 steps") == [1.0, 0.5, 0.0]
    assert values_of("top_k", "0 to 100 in 3 steps, 500") == [0, 50, 100, 500]


@pytest.mark.parametrize(
    "written", ["0.8, 0.95, 1.0", "0.8/0.95/1", " 0.8;.95 ; 1e0,", "0.8\n0.95\n1"]
)
def test_values_can_be_separated_in_several_ways(written: str) -> None:
    assert values_of("top_p", written) == [0.8, 0.95, 1.0]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(2, MAX_CELLS))
def test_values_of_a_range_stay_between_its_ends(first: int, last: int, steps: int) -> None:
    written = f"{first / 100} to {last / 100} in {steps} steps"
    if first == last:
        with pytest.raises(InvalidGrid, match="two ends that differ"):
            values_of("temperature", written)
        return
    values = values_of("temperature", written)
    assert (values[0], values[-1], len(values)) == (first / 100, last / 100, steps)
    assert values == sorted(values, reverse=first > last)


def test_flags_choices_and_presets_can_be_axes() -> None:
    assert values_of("token_healing", "off, on") == [False, True]
    assert values_of("truncate", "error, left") == ["error", "left"]
    on_or_off = axis_values("rows", "token_healing", "off, on")
    assert [value.heading[0][1] for value in on_or_off] == [message("text.off"), message("text.on")]
    headings = [words(value.heading) for value in axis_values("rows", PRESET, "greedy, Wild")]
    assert headings == [[("Preset", "Greedy")], [("Preset", "Wild")]]
    assert axis_values("rows", PRESET, "wild")[0].settings == PRESETS["Wild"]


@pytest.mark.parametrize("name", [PRESET, *AXES])
def test_the_suggested_values_of_an_axis_are_valid(name: str) -> None:
    assert 2 <= len(grid_of(rows=(name, suggestion(name))).cells) <= 6


def test_every_control_with_a_single_value_can_be_an_axis() -> None:
    others = {"n", "logprobs", "echo"} | {c.name for c in CONTROLS if c.kind == "text"}
    assert set(AXES) == {c.name for c in CONTROLS if not c.is_list} - others


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("temperature", "", r"Temperature \(temperature\) has no values yet"),
        ("temperature", "warm", 'must be a number from 0 to 2; it was "warm"'),
        ("temperature", "0.2, 9", 'must be a number from 0 to 2; it was "9"'),
        ("temperature", "0 to 9 in 3 steps", 'must be a number from 0 to 2; it was "9"'),
        ("temperature", "nan", "must be a number from 0 to 2"),
        ("temperature", "0 to 1 in 1 step", "2 steps or more"),
        ("temperature", "0 to 1 in 10000000000000 steps", "at most 36 cells"),
        ("temperature", "0.5, .50", 'the value "0.5" is given twice. Remove one.'),
        ("temperature", "0," * 1001, "2,002 characters; at most 2,000"),
        ("top_k", "1.5", r"must be a whole number from 0 to 1000"),
        ("top_k", "1 to 3 in 5 steps", "only 3 from 1 to 3, not 5"),
        ("truncate", "left to right in 2 steps", "must be one of these: error, left"),
        ("token_healing", "1 to 0 in 2 steps", "has no ranges"),
        (PRESET, "", "Choose presets: Precise, Balanced, Wild, Greedy"),
        (PRESET, "Tame", 'There is no preset "Tame"; there are'),
        ("stop", "x", '"stop" cannot be compared'),
        ("n", "2", '"n" cannot be compared'),
        ("<script>", "1", '"<script>" cannot be compared'),
    ],
)  # fmt: skip
def test_an_invalid_axis_is_refused_with_the_reason(name: str, written: str, words: str) -> None:
    with pytest.raises(InvalidGrid, match=words) as wrong:
        grid_of(rows=(name, written))
    assert wrong.value.field == "rows"


def test_axes_of_five_and_three_values_make_fifteen_cells() -> None:
    grid = grid_of(
        rows=("temperature", "0.2 to 1.4 in 5 steps"),
        columns=("top_p", "0.8/0.95/1.0"),
        controls={"max_new_tokens": "30", "min_p": 0.1, "stop": ["x"], "n": 4, "best_of": None},
    )
    assert (len(grid.rows), len(grid.columns)) == (5, 3)
    assert words(grid.rows[0]) == [("Temperature", "0.2")]
    for cell, (temperature, top_p) in zip(
        grid.cells, itertools.product([0.2, 0.5, 0.8, 1.1, 1.4], [0.8, 0.95, 1.0]), strict=True
    ):
        assert cell.params == SamplingParams(
            temperature=temperature, top_p=top_p, max_new_tokens=30, min_p=0.1, stop=("x",),
            seed=7, logprobs=0,
        )  # fmt: skip
    assert grid.most_tokens == 15 * 30


def test_seeds_are_equal_or_count_up() -> None:
    axis = ("temperature", "0.1, 0.2, 0.3")
    assert [cell.settings["seed"] for cell in grid_of(rows=axis).cells] == [7, 7, 7]
    different = grid_of(rows=axis, same_seed=False, seed=MAX_SEED)
    assert [cell.settings["seed"] for cell in different.cells] == [MAX_SEED, 0, 1]
    axis = ("seed", "3, 5")
    assert [cell.settings["seed"] for cell in grid_of(rows=axis, same_seed=False).cells] == [3, 5]


def test_a_cell_with_contradictory_controls_is_refused_alone() -> None:
    grid = grid_of(rows=("min_new_tokens", "10, 100"), controls={"max_new_tokens": 50})
    runs, cannot = grid.cells
    assert runs.params is not None
    assert cannot.params is None
    assert cannot.message is not None
    assert "(min_new_tokens) is 100, which is more than Length" in str(cannot.message)
    assert grid.most_tokens == 50


def test_a_grid_without_a_valid_cell_is_refused() -> None:
    with pytest.raises(InvalidGrid, match=r"is 90, which is more than Length"):
        grid_of(rows=("temperature", "0, 1"), controls={"max_new_tokens": 5, "min_new_tokens": 90})


@pytest.mark.parametrize(
    ("given_", "field", "words"),
    [
        ({"prompt": " \n"}, "prompt", "Write a prompt"),
        ({"controls": {"max_new_tokens": "many"}}, "length", "must be a whole number from 0 to"),
        ({"controls": {"top_p": 3}}, "controls", r"Top-p \(top_p\) must be"),
        (
            {"rows": ("temperature", "0, 1"), "columns": (PRESET, "Wild")},
            "columns",
            "both set Temperature",
        ),
        (
            {
                "rows": ("top_k", ",".join(map(str, range(1, 8)))),
                "columns": ("seed", "1,2,3,4,5,6"),
            },
            "size",
            "That is 7 \N{MULTIPLICATION SIGN} 6 = 42 cells; at most 36",
        ),
        (
            {
                "prompt": "{a} {b}",
                "placeholders": {n: [str(i) for i in range(100)] for n in "ab"},
            },
            "size",
            "That is 100 cells; at most 36",
        ),
        ({"prompt": "a\ud800"}, "prompt", "an unpaired surrogate"),
        (
            {"prompt": "{a}", "placeholders": {"a": ["\udfff"]}},
            "values of a",
            "an unpaired surrogate",
        ),
        (
            {"prompt": "{a}" * 900, "placeholders": {"a": ["x" * 100_000]}},
            "prompt",
            "With its values the template has 90,000,000 characters; at most 200,000",
        ),
    ],
)
def test_an_invalid_comparison_is_refused_with_the_reason(
    given_: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidGrid, match=words) as wrong:
        grid_of(**given_)
    assert wrong.value.field == field


def test_the_form_that_the_page_sends_is_parsed() -> None:
    grid = read_form(
        {
            "prompt": "A {x}",
            "is_template": True,
            "placeholders": [["x", "1\n2"], ["__proto__", "3"]],
            "rows": {"control": "temperature", "values": "0.5"},
            "columns": {"control": "", "values": "left over"},
            "length": "12",
            "seeds": "different",
            "controls": {"seed": "40", "stop": "a\nb", "max_new_tokens": 120, "n": 3},
        },
        seed=1,
    )
    assert grid.prompts == ("A 1", "A 2")
    first, second = (cell.params for cell in grid.cells)
    assert first == SamplingParams(
        temperature=0.5, max_new_tokens=12, seed=40, stop=("a", "b"), logprobs=0
    )
    assert second is not None
    assert second.seed == 41


def test_all_prompts_together_have_a_limit() -> None:
    template = "{a}" + "x" * 199_999
    assert len(grid_of(template, {"a": ["1", "2"]}).prompts) == 2
    with pytest.raises(InvalidGrid, match="first 3 prompts have 600,000 characters") as wrong:
        grid_of(template, {"a": ["1", "2", "3", "4"]})
    assert wrong.value.field == "prompt"


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(FIELDS, ANYTHING),
    )
    | ANYTHING
)  # fmt: skip
def test_any_form_is_parsed_or_refused_with_a_message(form: Any) -> None:
    try:
        grid = read_form(form, seed=0)
    except InvalidGrid as wrong:
        text = str(wrong)
    else:
        text = "a comparison"
        assert 1 <= len(grid.cells) <= MAX_CELLS
    assert text
    text.encode()  # fails if the message cannot be sent
