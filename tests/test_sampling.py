"""The table of controls: complete, documented, and strict about what it takes."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from gptj_demo.sampling import (
    CONTROLS,
    MAX_STOP_CHARACTERS,
    MAX_STOP_STRINGS,
    PRESETS,
    InvalidControl,
    SamplingParams,
    make_params,
)

NUMBERS = [control for control in CONTROLS if control.kind in ("integer", "number")]


def test_every_control_explains_itself() -> None:
    for control in CONTROLS:
        assert control.label
        assert control.help.endswith(".")
        assert control.definition.endswith(".")


def test_names_are_those_of_generation_config() -> None:
    ours = {"stop": "stop_strings"}  # OpenAI's name; `seed` has no counterpart there
    known = vars(GenerationConfig())
    for control in CONTROLS:
        assert control.name == "seed" or ours.get(control.name, control.name) in known


def test_defaults_and_presets_are_valid() -> None:
    assert make_params({}) == SamplingParams()
    for preset in PRESETS.values():
        make_params(preset)


@pytest.mark.parametrize("control", NUMBERS, ids=lambda control: control.name)
def test_a_number_is_taken_in_its_range_and_refused_beyond(control: Any) -> None:
    for value in (control.minimum, control.maximum):
        assert getattr(make_params({control.name: value}), control.name) == value
    for value in (control.minimum - 1, control.maximum + 1, math.nan, math.inf, "much", None):
        with pytest.raises(InvalidControl) as refusal:
            make_params({control.name: value})
        assert refusal.value.name == control.name
        message = str(refusal.value)
        assert control.label in message
        assert f"{control.minimum:g} to {control.maximum:g}" in message
        assert repr(value) in message


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ([""], "empty"),
        (["x" * (MAX_STOP_CHARACTERS + 1)], "at most 100 characters"),
        (["x"] * (MAX_STOP_STRINGS + 1), "at most 8 stop strings are allowed, not 9"),
        (["\ud83d"], "stands for nothing"),
        ("not a list", "tuple"),
    ],
)
def test_stop_strings_that_cannot_be_are_refused(stop: Any, said: str) -> None:
    with pytest.raises(InvalidControl, match=said) as refusal:
        make_params({"stop": stop})
    assert refusal.value.name == "stop"


def test_an_unknown_control_is_refused_by_name_with_the_known_ones() -> None:
    with pytest.raises(InvalidControl, match=r"'tmperature'.*temperature"):
        make_params({"tmperature": 1})


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([c.name for c in CONTROLS]) | st.text(), ANYTHING))
def test_whatever_is_given_the_answer_is_params_or_a_sentence(values: dict[str, Any]) -> None:
    message = ""
    try:
        params = make_params(values)
    except InvalidControl as refusal:
        message = str(refusal)
    if message:
        assert message.endswith(".")
    else:
        assert 0 <= params.temperature <= 2
        assert 1 <= params.max_new_tokens <= 2048
