"""Fields of other completion servers: accepted if they have no effect, else refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.api.compatibility import NEUTRAL, UNSET, drop_neutral

from .conftest import Playground

EXAMPLES: dict[str, tuple[list[Any], list[Any]]] = {
    # field: values that have no effect, values that would change the text or are of a wrong type
    "store": ([True, False, None], ["yes"]),
    "metadata": ([{}, {"user": "1"}], [[1]]),
    "service_tier": (["auto"], [1]),
    "prompt_cache_key": (["abc"], [1]),
    "safety_identifier": (["abc"], [1]),
    "suffix": (["", None], [" and so on"]),
    "response_format": ([{"type": "text"}], [{"type": "json_object"}]),
    "skip_special_tokens": ([True], [False, 1]),
    "spaces_between_special_tokens": ([True, False], [1]),
    "add_special_tokens": ([True, False], [1]),
    "use_beam_search": ([False], [True, 0]),
    "length_penalty": ([1, 1.0], [0.8, True]),
    "early_stopping": ([False], [True]),
    "priority": ([0], [1, False]),
    "request_id": (["abc"], [1]),
    "do_sample": ([True], [False]),
    "num_beams": ([1], [4, True]),
    "guidance_scale": ([1, 1.0], [1.5]),
    "cache_prompt": ([True, False], ["yes"]),
    "penalize_nl": ([False], [True]),
    "repeat_last_n": ([-1], [64]),
    "dry_penalty_last_n": ([-1], [0]),
    "n_keep": ([0, -1], [10]),
    "dynatemp_range": ([0, 0.0], [0.5]),
    "min_keep": ([0, 1], [2]),
    "ban_eos_token": ([False], [True]),
    "add_bos_token": ([True, False], [1]),
    "smoothing_factor": ([0], [0.2]),
    "dynamic_temperature": ([False], [True]),
    "encoder_repetition_penalty": ([1], [1.1]),
    "no_repeat_ngram_size_encoder": ([0], [2]),
    "penalty_alpha": ([0], [0.6]),
}


def dropped(**fields: Any) -> dict[str, Any]:
    return dict(json.loads(drop_neutral(json.dumps(fields).encode())))


def test_every_field_has_examples() -> None:
    assert EXAMPLES.keys() == NEUTRAL.keys()


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_value_without_effect_is_dropped(name: str) -> None:
    for value in EXAMPLES[name][0]:
        assert dropped(prompt="a", **{name: value}) == {"prompt": "a"}, value


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_value_with_an_effect_stays_for_validation_to_refuse(name: str) -> None:
    for value in EXAMPLES[name][1]:
        assert dropped(prompt="a", **{name: value}) == {"prompt": "a", name: value}, value


@pytest.mark.parametrize("name", UNSET)
def test_minus_one_means_not_set(name: str) -> None:
    assert dropped(prompt="a", **{name: -1}) == {"prompt": "a"}
    assert dropped(prompt="a", **{name: 5}) == {"prompt": "a", name: 5}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text() | st.sampled_from([*NEUTRAL, *UNSET]), JSON))
def test_other_fields_stay_as_they_are(fields: dict[str, Any]) -> None:
    kept = dropped(**{"prompt": "a", **fields})
    expected = {name for name in fields if name not in NEUTRAL and name not in UNSET}
    assert {name: fields[name] for name in expected} == {name: kept[name] for name in expected}


@given(st.binary())
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"store": ' + b"9" * 10_000 + b"}", b"[1]"])
def test_a_body_that_is_no_object_is_returned_as_it_is(body: bytes, other: bytes) -> None:
    assert drop_neutral(body) == body
    if not other.lstrip().startswith(b"{"):
        assert drop_neutral(other) == other


def test_neutral_fields_leave_text_and_numbers_unchanged(playground: Playground) -> None:
    settings = {"max_tokens": 12, "seed": 3, "logprobs": 2}
    (plain,) = playground.choices(**settings)
    neutral = {name: values[0][0] for name, values in EXAMPLES.items()}
    assert playground.choices(**settings, **neutral, top_k=-1) == [plain]


@pytest.mark.parametrize("name", ["suffix", "use_beam_search", "response_format"])
def test_a_field_that_would_change_the_text_is_refused_by_name(
    playground: Playground, name: str
) -> None:
    answer = playground.complete(**{name: EXAMPLES[name][1][0]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


def test_a_stream_can_send_the_usage_so_far_with_every_chunk(playground: Playground) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True, "include_obfuscation": False}
    answer = playground.complete(max_tokens=6, stream=True, stream_options=options)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    usages = [json.loads(line)["usage"] for line in lines if line.startswith("{")]
    counts = [usage["completion_tokens"] for usage in usages]
    assert counts == sorted(counts)
    assert counts[-1] == 6
