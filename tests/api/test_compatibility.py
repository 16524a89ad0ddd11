"""Fields of other completion servers: accepted if they have no effect, else refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptj_demo.api.compatibility import ALIASES, MEANING, NEUTRAL, UNSET, in_our_terms
from gptj_demo.api.errors import ApiError
from gptj_demo.sampling import CONTROLS, MAX_NEW_TOKENS
from tests.processes import ROOT

from .conftest import Playground

EXAMPLES: dict[str, tuple[list[Any], list[Any]]] = {
    # field: values that have no effect, values that would change the text or are of a wrong type
    "store": ([True, False, None], ["yes"]),
    "metadata": ([{}, {"user": "1"}], [[1]]),
    "service_tier": (["auto"], [1]),
    "modalities": ([["text"]], [["audio"]]),
    "prompt_cache_key": (["abc"], [1]),
    "safety_identifier": (["abc"], [1]),
    "suffix": (["", None], [" and so on"]),
    "response_format": ([{"type": "text"}], [{"type": "grammar"}]),
    "skip_special_tokens": ([True], [False, 1]),
    "spaces_between_special_tokens": ([True, False], [1]),
    "add_special_tokens": ([True, False], [1]),
    "use_beam_search": ([False], [True, 0]),
    "length_penalty": ([1, 1.0], [0.8, True]),
    "early_stopping": ([False], [True]),
    "priority": ([0], [1, False]),
    "request_id": (["abc"], [1]),
    "detokenize": ([True], [False]),
    "allowed_words": ([[], ""], [["a"]]),
    "guided_json": ([None, {}], [{"type": "object"}]),
    "guided_regex": (["", None], ["a+"]),
    "guided_choice": ([[], None], [["a", "b"]]),
    "guided_grammar": ([""], ["root ::= 'a'"]),
    "guided_decoding_backend": (["outlines"], [1]),
    "guided_whitespace_pattern": ([""], ["[ ]?"]),
    "structured_outputs": ([{}, None], [{"regex": "a"}]),
    "do_sample": ([True], [False]),
    "num_beams": ([1], [4, True]),
    "guidance_scale": ([1, 1.0], [1.5]),
    "cache_prompt": ([True, False], ["yes"]),
    "penalize_nl": ([False], [True]),
    "dry_penalty_last_n": ([-1], []),
    "n_keep": ([0, -1], [10]),
    "dynatemp_range": ([0, 0.0], [0.5]),
    "dynatemp_exponent": ([1], [2]),
    "min_keep": ([0, 1], [2]),
    "top_n_sigma": ([-1, 0], [1]),
    "n_probs": ([0], [5]),
    "id_slot": ([-1], [0]),
    "t_max_predict_ms": ([0], [100]),
    "ban_eos_token": ([False], [True]),
    "add_bos_token": ([True, False], [1]),
    "auto_max_new_tokens": ([False], [True]),
    "negative_prompt": ([""], ["bad"]),
    "temperature_last": ([False], [True]),
    "smoothing_factor": ([0], [0.2]),
    "smoothing_curve": ([1], [2]),
    "dynamic_temperature": ([False], [True]),
    "encoder_repetition_penalty": ([1], [1.1]),
    "no_repeat_ngram_size_encoder": ([0], [2]),
    "penalty_alpha": ([0], [0.6]),
    "rep_pen_slope": ([0, 1], [0.7]),
    "use_default_badwordsids": ([False], [True]),
    "trim_stop": ([True], [False]),
    "quiet": ([True, False], [1]),
    "genkey": (["KCPP1"], [1]),
    "banned_tokens": ([[], ""], [["a"]]),
    "custom_token_bans": ([""], ["1,2"]),
    "banned_strings": ([[]], [["a shiver"]]),
    "include_reasoning": ([True, False], [1]),
    "skew": ([0], [1]),
    "nsigma": ([0], [1]),
    "repetition_decay": ([0], [5]),
    "max_tokens_second": ([0], [5]),
    "speculative_ngram": ([False], [True]),
    "sampler_priority": ([[]], [["top_k"]]),
    "samplers": ([[]], [["top_k"]]),
}
SAID: dict[str, Any] = {
    "max_completion_tokens": 5, "min_tokens": 2, "max_new_tokens": 5, "n_predict": 5,
    "repeat_penalty": 1.2, "repeat_last_n": 64, "tfs_z": 0.9, "rep_pen": 1.2, "rep_pen_range": 64,
    "typical": 0.9, "sampler_seed": 3, "stop_sequence": ["."],
    "stopping_strings": ["."], "mirostat_mode": 2,
    "grammar": 'root ::= "a"', "grammar_string": 'root ::= "a"', "json_schema": {"type": "object"},
}  # fmt: skip
"""A value of each of other servers' names."""


def dropped(**fields: Any) -> dict[str, Any]:
    return in_our_terms(fields).values


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


NOT_SET = {
    "top_k": -1, "seed": -1, "repetition_penalty_range": -1, "logprobs": False,
    "logit_bias": [], "stop": "",
}  # fmt: skip


@pytest.mark.parametrize("name", UNSET)
def test_a_value_that_means_not_set_is_dropped(name: str) -> None:
    assert dropped(prompt="a", **{name: NOT_SET[name]}) == {"prompt": "a"}
    assert dropped(prompt="a", **{name: 5}) == {"prompt": "a", name: 5}


@pytest.mark.parametrize("name", ALIASES)
def test_another_servers_field_name_is_mapped_to_ours(name: str) -> None:
    ours = ALIASES[name]
    assert dropped(prompt="a", **{name: SAID[name]}) == {"prompt": "a", ours: SAID[name]}
    assert dropped(prompt="a", **{name: None}) == {"prompt": "a"}
    assert dropped(**{name: SAID[name], ours: SAID[name]}) == {ours: SAID[name]}
    for fields in ({ours: None, name: SAID[name]}, {name: SAID[name], ours: None}):
        assert dropped(**fields) == {ours: SAID[name]}, "null means left out"
    with pytest.raises(ApiError, match="say different things") as refused:
        dropped(**{ours: SAID[name], name: 7})
    assert (refused.value.status, refused.value.param) == (400, name)


def test_dry_penalty_last_n_has_no_effect_without_dry_multiplier() -> None:
    assert dropped(dry_penalty_last_n=0) == {}
    assert dropped(dry_penalty_last_n=5, dry_multiplier=0) == {"dry_multiplier": 0}
    both = {"dry_penalty_last_n": 0, "dry_multiplier": 0.8}
    assert dropped(**both) == both
    assert dropped(dry_penalty_last_n=-1, dry_multiplier=0.8) == {"dry_multiplier": 0.8}
    assert dropped(dry_sequence_breakers='["a", "b"]') == {"dry_sequence_breakers": ["a", "b"]}


@pytest.mark.parametrize("name", ["mikupad", "sillytavern"])
def test_the_bodies_of_real_clients_are_accepted(playground: Playground, name: str) -> None:
    body = json.loads((ROOT / "tests" / "clients" / "bodies" / f"{name}.json").read_text())
    answer = playground.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


def test_special_numbers_are_mapped_to_our_values() -> None:
    assert dropped(truncate_prompt_tokens=-1) == {"truncate": "left"}
    assert dropped(logprobs=-1, prompt_logprobs=-1) == {"logprobs": 20, "prompt_logprobs": 20}
    assert dropped(truncate_prompt_tokens=5, logprobs=2) == {
        "truncate_prompt_tokens": 5,
        "logprobs": 2,
    }
    assert dropped(truncate=None, truncate_prompt_tokens=-1) == {"truncate": "left"}
    assert dropped(truncate_prompt_tokens=-1, truncate=None) == {"truncate": "left"}
    assert dropped(repeat_last_n=-1) == {}
    for name in ("max_tokens", "n_predict", "max_new_tokens", "max_completion_tokens"):
        assert dropped(**{name: -1}) == {"max_tokens": MAX_NEW_TOKENS}


def test_a_repetition_range_of_0_is_accepted_only_without_a_penalty() -> None:
    """0 turns llama.cpp's penalty off, and means the whole text here."""
    assert dropped(repeat_last_n=0) == {}
    for name in ("repeat_penalty", "rep_pen", "repetition_penalty"):
        for fields in ({name: 1.0, "repeat_last_n": 0}, {name: None, "repeat_last_n": 0}):
            assert "repetition_penalty_range" not in dropped(**fields)
        with pytest.raises(ApiError, match=f"{name} sets one") as refused:
            dropped(**{"repeat_last_n": 0, name: 1.2})
        assert refused.value.param == "repeat_last_n"
    assert dropped(repeat_last_n=False) == {"repetition_penalty_range": False}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = SCALARS | st.lists(SCALARS) | st.dictionaries(st.text(), SCALARS)


KNOWN = {*NEUTRAL, *UNSET, *ALIASES, *MEANING, "dry_sequence_breakers"}


@given(st.dictionaries(st.text() | st.sampled_from(sorted({*NEUTRAL, *UNSET})), JSON))
def test_other_fields_stay_as_they_are(fields: dict[str, Any]) -> None:
    kept = dropped(**{"prompt": "a", **fields})
    expected = {name for name in fields if name not in KNOWN}
    assert {name: fields[name] for name in expected} == {name: kept[name] for name in expected}


def test_neutral_fields_leave_text_and_numbers_unchanged(playground: Playground) -> None:
    body = {"max_tokens": 12, "seed": 3, "logprobs": 2}
    (plain,) = playground.choices(**body)
    neutral: dict[str, Any] = {name: values[0][0] for name, values in EXAMPLES.items()}
    unset = {name: value for name, value in NOT_SET.items() if name not in body}
    assert playground.choices(**body, **neutral, **unset) == [plain]


NEUTRAL_VALUES = [(name, value) for name, (values, _) in EXAMPLES.items() for value in values]
CONTROLS_OFF = [
    (control.api_name, control.off)
    for control in CONTROLS
    if control.off is not None and control.name not in ("temperature", "top_p", "n")
]


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fields=st.lists(st.sampled_from([*NEUTRAL_VALUES, *CONTROLS_OFF]), max_size=12).map(dict))
def test_any_neutral_values_together_change_nothing(
    playground: Playground, fields: dict[str, Any]
) -> None:
    body = {"max_tokens": 6, "seed": 11, "logprobs": 1, "temperature": 0.9}
    (plain,) = playground.choices(**body)
    assert playground.choices(**body, **fields) == [plain], fields


def test_other_servers_field_names_have_the_same_effect_as_ours(playground: Playground) -> None:
    ours = {"max_tokens": 12, "seed": 3, "repetition_penalty": 1.3, "repetition_penalty_range": 8}
    theirs = {"n_predict": 12, "sampler_seed": 3, "rep_pen": 1.3, "repeat_last_n": 8}
    assert playground.choices(**ours) == playground.choices(**theirs)


def test_a_field_without_effect_is_refused_with_the_values_that_are_accepted(
    playground: Playground,
) -> None:
    for name, value, said in (
        ("skip_special_tokens", False, "skip_special_tokens must be true here"),
        ("use_beam_search", True, "use_beam_search must be false here"),
        ("n_keep", 7, "n_keep must be 0 or -1 here, or left out; it was 7."),
        ("genkey", 5, "genkey must be a text here, or left out; it was 5."),
        ("metadata", [1], "metadata must be an object here, or left out; it was [1]."),
    ):
        error = playground.complete(**{name: value}).json()["error"]
        assert said in error["message"], error
        assert (error["param"], error["code"]) == (name, "invalid_value")


@pytest.mark.parametrize("name", ["suffix", "use_beam_search", "response_format"])
def test_a_field_that_would_change_the_text_is_refused_by_name(
    playground: Playground, name: str
) -> None:
    answer = playground.complete(**{name: EXAMPLES[name][1][0]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name


def test_n_predict_minus_1_writes_until_the_context_is_full(playground: Playground) -> None:
    (model,) = playground.http.get("/v1/models").json()["data"]
    prompt = [5] * (model["max_model_len"] - 40)
    for name in ("n_predict", "max_tokens"):
        answer = playground.complete(prompt, **{name: -1}, ignore_eos=True).json()
        assert answer["usage"]["completion_tokens"] == 40


def test_truncation_length_leaves_room_for_the_new_tokens(playground: Playground) -> None:
    body = {"max_tokens": 2, "return_token_ids": True, "seed": 1}
    (whole,) = playground.choices("Once upon a time there was a king", **body)
    ids = whole["prompt_token_ids"]
    (cut,) = playground.choices("Once upon a time there was a king", truncation_length=6, **body)
    assert cut["prompt_token_ids"] == ids[-4:]
    (cut,) = playground.choices(ids, truncation_length=6, truncate_prompt_tokens=3, **body)
    assert cut["prompt_token_ids"] == ids[-3:]
    assert playground.choices(ids, truncation_length=2048, **body) == [whole]
    for value, status in ((2, 422), (0, 400), ("9", 400)):
        answer = playground.complete(truncation_length=value, **body)
        assert answer.status_code == status
        assert answer.json()["error"]["param"] == "truncation_length"


def test_an_error_names_the_field_of_the_request(playground: Playground) -> None:
    for name, value, said in (
        ("n_predict", "5", '(n_predict) must be a whole number from 0 to 2048; it was "5".'),
        ("stop_sequence", 5, "(stop_sequence) must be a list of texts"),
        ("min_tokens", 90, "(min_tokens) is 90"),
        ("grammar", "(", "grammar"),
    ):
        error = playground.complete(**{name: value}).json()["error"]
        assert said in error["message"], error
        assert error["param"] == name


@pytest.mark.parametrize("is_last", [True, False])
def test_a_stream_can_send_the_usage_so_far_with_every_chunk(
    playground: Playground, is_last: bool
) -> None:
    options = {"include_usage": is_last, "continuous_usage_stats": True}
    options["include_obfuscation"] = False
    answer = playground.complete(max_tokens=6, stream=True, stream_options=options)
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    usages = [json.loads(line)["usage"] for line in lines if line.startswith("{")]
    counts = [usage["completion_tokens"] for usage in usages]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert counts[-1] == 6
