"""The table of controls: complete, documented, and strict about what it takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from gptj_demo.control import Control
from gptj_demo.control_values import InvalidControl, make_params, read_written, write_value
from gptj_demo.sampling import (
    CONTROL_ORDER,
    CONTROLS,
    FILTERS,
    MAX_BIAS,
    MAX_STRING_CHARACTERS,
    MAX_STRINGS,
    MAX_WORDS,
    PRESETS,
    SamplingParams,
)
from gptj_demo.texts import quoted

BY_NAME = {control.name: control for control in CONTROLS}
NUMBERS = [c for c in CONTROLS if c.kind in ("integer", "number", "optional_integer")]
LISTS = [c for c in CONTROLS if c.is_list]
FREE_LISTS = [c for c in LISTS if c.kind != "permutation"]
PARTNERS = {  # settings that a value needs to be valid
    ("max_new_tokens", 0): {"echo": True},
    ("min_new_tokens", 2048): {"max_new_tokens": 2048},
    ("n", 16): {"best_of": 16},
}


# ---- the table


def test_every_control_has_a_label_a_help_text_and_a_definition() -> None:
    for control in CONTROLS:
        assert control.label
        assert control.help.endswith(".")
        assert control.definition.endswith(".")
    assert len({control.label for control in CONTROLS}) == len(CONTROLS)


def test_every_number_has_a_range_with_its_default_and_its_off_value_in_it() -> None:
    for control in NUMBERS:
        assert control.minimum is not None
        assert control.maximum is not None
        for value in (control.default, control.off):
            assert value is None or control.minimum <= value <= control.maximum


def test_transformers_names_of_controls_exist_in_generation_config() -> None:
    known = vars(GenerationConfig())
    for control in CONTROLS:
        if control.transformers in (None, "input_ids", "set_seed"):
            has_its_name = control.name in known
            assert has_its_name is (control.name == "token_healing"), control.name
        else:
            assert control.transformers in known, control.name


def test_the_order_of_filters_holds_controls_each_once() -> None:
    assert len(set(CONTROL_ORDER)) == len(CONTROL_ORDER)
    assert set(CONTROL_ORDER) <= set(BY_NAME)


def test_defaults_and_presets_are_valid() -> None:
    assert make_params({}) == SamplingParams()
    for preset in PRESETS.values():
        make_params(preset)


# ---- accepted and refused values


def refused(values: dict[str, Any], name: str) -> str:
    """The sentence that refuses these values; the refusal names the control `name`."""
    with pytest.raises(InvalidControl) as refusal:
        make_params(values)
    assert refusal.value.name == name
    message = str(refusal.value)
    assert f"{BY_NAME[name].label} ({name})" in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("control", NUMBERS, ids=lambda control: control.name)
def test_a_number_is_taken_in_its_range_and_refused_beyond(control: Control) -> None:
    assert control.minimum is not None
    assert control.maximum is not None
    for value in (control.minimum, control.maximum):
        beside = PARTNERS.get((control.name, int(value)), {})
        assert getattr(make_params({control.name: value, **beside}), control.name) == value
    wrong = [control.minimum - 1, control.maximum + 1, math.nan, math.inf, "much", [], {}]
    if control.kind != "optional_integer":
        wrong.append(None)
    if control.kind != "number":
        wrong.append(control.minimum + 0.5)
    for value in wrong:
        message = refused({control.name: value}, control.name)
        assert f"{control.minimum:g} to {control.maximum:.10g}" in message
        assert quoted(value) in message


@pytest.mark.parametrize("control", FREE_LISTS, ids=lambda control: control.name)
def test_a_list_is_taken_up_to_its_length_and_refused_beyond(control: Control) -> None:
    most = MAX_STRINGS.get(control.name, MAX_WORDS)
    one = {"strings": "x", "integers": 5, "biases": ("x", 1.0)}[control.kind]
    assert len(getattr(make_params({control.name: [one] * most}), control.name)) == most
    message = refused({control.name: [one] * (most + 1)}, control.name)
    assert f"at most {most:,} values are allowed, not {most + 1:,}." in message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("stop", [""], "none of the texts may be empty"),
        ("stop", ["x" * (MAX_STRING_CHARACTERS + 1)], "at most 100 characters"),
        ("bad_words", ["\ud83d"], "an unpaired surrogate"),
        ("dry_sequence_breakers", "not a list", "must be a list of texts"),
        ("stop", [5], "must be a list of texts"),
        ("stop_token_ids", ["x"], "whole numbers from 0"),
        ("stop_token_ids", [-1], "whole numbers from 0"),
        ("stop_token_ids", 5, "whole numbers from 0"),
        ("logit_bias", {" the": MAX_BIAS + 1}, "a number from -100 to 100"),
        ("logit_bias", {" the": math.nan}, "a number from -100 to 100"),
        ("logit_bias", {" the": None}, "a number from -100 to 100"),
        ("logit_bias", {"9" * 5000: 1}, "must give token ids or texts a number"),
        ("logit_bias", {"": 1}, "must give token ids or texts a number"),
        ("logit_bias", [" the"], "must give token ids or texts a number"),
        ("ignore_eos", "perhaps", 'must be true or false; it was "perhaps"'),
        ("echo", 7, "must be true or false; it was 7"),
        ("token_healing", None, "must be true or false; it was null"),
        ("truncate", "right", 'must be one of these: error, left; it was "right"'),
        ("mirostat", 1, "must be one of these: off, 2; it was 1"),
        ("truncate", None, "must be one of these: error, left; it was null"),
        ("sampler_order", FILTERS[1:], "each of these exactly once: temperature, top_k"),
        ("sampler_order", (*FILTERS, "top_k"), "each of these exactly once"),
        ("sampler_order", ("best", *FILTERS[1:]), 'it was ["best", "top_k"'),
        ("sampler_order", "top_k", "each of these exactly once"),
    ],
)
def test_invalid_values_are_refused_with_a_sentence(name: str, value: Any, said: str) -> None:
    assert said in refused({name: value}, name)


@pytest.mark.parametrize(
    ("values", "name", "said"),
    [
        ({"min_new_tokens": 11, "max_new_tokens": 10}, "min_new_tokens", "is 11, which is more"),
        ({"best_of": 2, "n": 3}, "best_of", "is 2, which is less than Completions (n), 3"),
        ({"max_new_tokens": 0}, "max_new_tokens", "turn on Score the prompt (echo)"),
        ({"max_new_tokens": 0, "echo": True, "n": 2}, "n", "is 2, which has no meaning with"),
        ({"max_new_tokens": 0, "echo": True, "best_of": 2}, "best_of", "is 2, which has no"),
    ],
)
def test_controls_that_contradict_each_other_are_refused(
    values: dict[str, Any], name: str, said: str
) -> None:
    assert said in refused(values, name)


def test_consistent_combinations_are_accepted() -> None:
    make_params({"min_new_tokens": 10, "max_new_tokens": 10})
    make_params({"max_new_tokens": 0, "echo": True})
    assert make_params({"best_of": 3, "n": 3}).candidates == 3
    assert make_params({"n": 3}).candidates == 3
    assert make_params({"best_of": 5}).candidates == 5


def test_mirostat_accepts_the_version_numbers_of_llama_cpp() -> None:
    assert [make_params({"mirostat": one}).mirostat for one in (0, 2)] == ["off", "2"]


def test_an_unknown_control_is_refused_by_name_with_the_known_ones() -> None:
    with pytest.raises(InvalidControl, match=r'"tmperature".*temperature'):
        make_params({"tmperature": 1})


def test_a_bias_names_its_token_by_id_by_text_or_by_quoted_text() -> None:
    given = {"464": 1, " dragon": -2.5, '" \\n"': 3, '"12"': 4, '"': 5}
    assert make_params({"logit_bias": given}).logit_bias == (
        (464, 1.0), (" dragon", -2.5), (" \n", 3.0), ("12", 4.0), ('"', 5.0),
    )  # fmt: skip


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*BY_NAME]) | st.text(), ANYTHING))
def test_any_values_give_params_or_a_refusal_with_a_sentence(values: dict[str, Any]) -> None:
    try:
        params = make_params(values)
    except InvalidControl as refusal:
        assert str(refusal).endswith(".")  # noqa: PT017
        assert refusal.name in values or refusal.name in BY_NAME  # noqa: PT017
        return
    for control in NUMBERS:
        value = getattr(params, control.name)
        if value is not None or control.kind != "optional_integer":
            assert control.minimum <= value <= control.maximum
    assert all(len(getattr(params, name)) <= most for name, most in MAX_STRINGS.items())
    assert params.n <= params.candidates


# ---- as people write it

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\\"),  # where \n stands for a line break
    min_size=1,
    max_size=MAX_STRING_CHARACTERS,
)
VALUES = {
    "strings": st.lists(TEXT, max_size=8),
    "integers": st.lists(st.integers(0, 60_000), max_size=64),
    "biases": st.lists(
        st.tuples(
            st.integers(0, 60_000) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
            st.integers(-1000, 1000).map(lambda tenths: tenths / 10),
        ),
        max_size=20,
    ),
}


@pytest.mark.parametrize("control", LISTS, ids=lambda control: control.name)
@given(data=st.data())
def test_a_list_reads_back_as_it_was_written(control: Control, data: st.DataObject) -> None:
    values = {**VALUES, "permutation": st.permutations(control.choices)}
    value = tuple(data.draw(values[control.kind]))
    written = write_value(control, value)
    read = make_params({control.name: read_written(control, written.split("\n"))})
    assert getattr(read, control.name) == value


@pytest.mark.parametrize(
    ("name", "lines", "value"),
    [
        ("stop", ["a b", "", r"\n\n"], ("a b", "\n\n")),
        ("bad_words", [""], ()),
        ("stop_token_ids", ["1, 2", "3"], ("1", "2", "3")),
        ("logit_bias", [" dragon = -5", "464=2", '"=" = 1', ""],
         ((" dragon", "-5"), (464, "2"), ("=", "1"))),
        ("seed", [" 7 "], "7"),
        ("seed", [""], None),
        ("temperature", ["0.5"], "0.5"),
        ("sampler_order", ["top_p, min_p", "top_k"], ("top_p", "min_p", "top_k")),
    ],
)  # fmt: skip
def test_written_values_are_parsed(name: str, lines: list[str], value: Any) -> None:
    assert read_written(BY_NAME[name], lines) == value


def test_a_bias_without_a_number_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidControl, match=r'Logit bias .* such as dragon = -5; .*"dragon"'):
        read_written(BY_NAME["logit_bias"], ["dragon"])


def test_the_table_can_be_written_as_json() -> None:
    schema = SamplingParams.model_json_schema(mode="serialization")
    assert json.loads(json.dumps(schema))["properties"].keys() == BY_NAME.keys()
