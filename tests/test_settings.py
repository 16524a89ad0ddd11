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
        ("GPTJ_PRECISION", "float12", "Allowed: auto, float32, float16, bfloat16, int8."),
        ("GPTJ_MAX_NUM_SEQS", "0", "a whole number from 1 to 2048."),
        ("GPTJ_MAX_NUM_SEQS", "many", "a whole number from 1 to 2048."),
        ("GPTJ_TOKENS_PER_MINUTE", "0", "a whole number from 1."),
        ("GPTJ_DRAIN_SECONDS", "nan", "a number from 0 to 86400."),
        ("GRADIO_SERVER_PORT", "70000", "a whole number from 1 to 65535."),
    ],
)
def test_an_invalid_value_is_reported_with_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as refusal:
        parse()
    assert str(refusal.value).startswith(f"{name} is {value}. Allowed: ")
    assert said in str(refusal.value)


@pytest.mark.parametrize("value", ["", " ", "\r"])
def test_an_empty_variable_is_not_taken_for_a_missing_one(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """An empty list of keys would open the API, an empty proxy accept every host name."""
    said = {}
    for name in Settings.model_fields:
        variable = environment_variable(name)
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            try:
                parse()
            except InvalidSettings as refusal:
                said[name] = str(refusal).removeprefix(variable)
    assert set(said.values()) == {" is empty: give it a value, or leave it out."}
    can_be_empty = set(Settings.model_fields) - set(said)
    assert can_be_empty == {"cors_origins", "allowed_hosts", "frame_origins", "filter_labels"}


def test_spaces_and_line_ends_around_a_value_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTJ_MODEL", " sample\r")
    monkeypatch.setenv("GPTJ_PRECISION", "int8\r\n")
    monkeypatch.setenv("GPTJ_URL_KEY", "secret\n")
    settings = parse()
    assert (settings.model, settings.precision) == ("sample", "int8")
    assert settings.url_key is not None
    assert settings.url_key.get_secret_value() == "secret"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPTJ_TRUSTED_PROXIES", "nginx"),
        ("GPTJ_TRUSTED_PROXIES", "10.0.0.0/40"),
        ("GPTJ_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("GPTJ_ALLOWED_HOSTS", "https://play.example.org"),
        ("GPTJ_ALLOWED_HOSTS", "play.example.org:443"),
        ("GPTJ_ALLOWED_HOSTS", "play.example.org/demo"),
        ("GPTJ_CORS_ORIGINS", "example.org"),
        ("GPTJ_CORS_ORIGINS", "https://example.org/page"),
        ("GPTJ_CORS_ORIGINS", "https://*.example.org"),
        ("GPTJ_FRAME_ORIGINS", "https://example.org/page"),
        ("GPTJ_FRAME_ORIGINS", "https://example.org; script-src *"),
        ("GPTJ_FRAME_ORIGINS", "https://münchen.example"),
    ],
)
def test_names_that_could_have_no_effect_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    good = "10.0.0.0/8" if "PROXIES" in name else "https://example.net"
    monkeypatch.setenv(name, value if "HOSTS" in name else f"{good}, {value}")
    with pytest.raises(InvalidSettings) as refusal:
        parse()
    assert str(refusal.value).startswith(f"{name} names {value!r}")
    assert "; each must be " in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GPTJ_TRUSTED_PROXIES", "*"),
        ("GPTJ_TRUSTED_PROXIES", "127.0.0.0/8, ::1,fc00::/7,10.1.2.3"),
        ("GPTJ_ALLOWED_HOSTS", "play.example.org, *.example.net,my_laptop,10.0.0.1,::1"),
        ("GPTJ_CORS_ORIGINS", "https://example.org/, http://localhost:3000,app://notes"),
        ("GPTJ_CORS_ORIGINS", "chrome-extension://abc, http://[::1]:8080"),
        ("GPTJ_FRAME_ORIGINS", "https://huggingface.co,https://*.hf.space,http://localhost:*"),
        ("GPTJ_FRAME_ORIGINS", "*"),
    ],
)
def test_names_of_every_kind_are_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(parse(), name.removeprefix("GPTJ_").lower()) == value


def test_a_wrong_flag_ends_the_program_with_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_flags("a program", ["--precision", "float12"])
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == "--precision is float12. Allowed: auto, float32, float16, bfloat16, int8.\n"
    )


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
