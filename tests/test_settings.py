"""What a deployer sets: flags over environment over defaults; one sentence for what is wrong."""

from __future__ import annotations

import argparse
import os

import pytest

from gptj_demo.settings import (
    InvalidSettings,
    Settings,
    add_arguments,
    environment_variable,
    parse_flags,
    read_settings,
    unknown_variables,
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("GPTJ_", "GRADIO_SERVER_")):
            monkeypatch.delenv(name)


def parse(*flags: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_settings(parser.parse_args(flags))


def test_the_defaults_apply_without_flags_and_variables() -> None:
    settings = parse()
    assert (settings.model, settings.precision, settings.server_port) == ("auto", "auto", 7860)


def test_every_setting_has_a_flag_an_environment_variable_and_a_help_text() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = parser.format_help()
    for name, field in Settings.model_fields.items():
        assert "--" + name.replace("_", "-") in text
        assert environment_variable(name) in text
        assert field.description


def test_the_environment_counts_and_a_flag_wins_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTJ_MODEL", "from-the-environment")
    monkeypatch.setenv("GPTJ_PRECISION", "int8")
    settings = parse("--model", "from-a-flag")
    assert (settings.model, settings.precision) == ("from-a-flag", "int8")


def test_gradios_own_variables_keep_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "1234")
    settings = parse()
    assert (settings.server_name, settings.server_port) == ("0.0.0.0", 1234)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("GPTJ_PRECISION", "float12", "'float32', 'float16', 'bfloat16' or 'int8'"),
        ("GPTJ_MAX_NUM_SEQS", "0", "greater than or equal to 1"),
        ("GRADIO_SERVER_PORT", "70000", "less than or equal to 65535"),
    ],
)
def test_an_invalid_value_is_reported_with_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as refusal:
        parse()
    assert str(refusal.value).startswith(f"{name} is {value!r}")
    assert said in str(refusal.value)


def test_a_wrong_flag_ends_the_program_with_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_flags("a program", ["--precision", "float12"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("--precision is 'float12'; it must be")


def test_an_unknown_variable_is_reported_with_a_suggestion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPTJ_API_KEY", "secret")
    monkeypatch.setenv("GPTJ_SERVER_PORT", "1234")
    monkeypatch.setenv("GPTJ_SERVICE_HOST", "10.0.0.1")  # from Kubernetes, for a Service `gptj`
    settings = parse_flags("a program", [])
    assert (settings.api_keys, settings.server_port) == (None, 7860)
    assert capsys.readouterr().err == (
        "These variables are not settings and have no effect: "
        "GPTJ_API_KEY (did you mean GPTJ_API_KEYS?), "
        "GPTJ_SERVER_PORT (did you mean GRADIO_SERVER_PORT?), GPTJ_SERVICE_HOST.\n"
    )


def test_all_settings_are_known_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(environment_variable(name), "a value")
    monkeypatch.setenv("gptj_model", "sample")
    assert unknown_variables() is None
