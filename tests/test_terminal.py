"""`python -m gptj_demo`: words on standard output and nothing else, the rest on standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gptj_demo.__main__ import parse_arguments, read_controls
from gptj_demo.sampling import CONTROLS
from tests.engine.checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("tiny"))


def terminal(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gptj_demo", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_same_command_prints_the_same_words_twice_whether_given_or_piped_in(
    folder: Path,
) -> None:
    options = ["--model", str(folder), "--max-new-tokens", "20", "--seed", "7"]
    first = terminal("The lamp", *options)
    second = terminal("-", *options, stdin="The lamp\n")
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert first.stdout.strip()
    assert "seed 7" in first.stderr
    assert "Wrote the 20 tokens" in first.stderr


def test_a_text_that_is_too_long_is_refused_with_both_numbers(folder: Path) -> None:
    ran = terminal("-", "--model", str(folder), stdin="lamp " * 100)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "this model reads 64 at most" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--temperature", "9"], "must be a number from 0 to 2; it was '9'"),
        (["x", "--precision", "float12"], "--precision is 'float12'"),
        (["x", "--no-such-flag"], "unrecognized arguments"),
        ([], "prompt"),
    ],
)
def test_wrong_arguments_end_with_one_sentence_and_code_2(arguments: list[str], said: str) -> None:
    ran = terminal(*arguments)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_model_that_is_not_there_ends_with_one_sentence_and_code_2() -> None:
    ran = terminal("x", "--model", "/no/such/folder")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "/no/such/folder" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_flags_become_controls_and_a_line_break_can_be_written() -> None:
    flags = ["x", "--top-k", "5", "--stop", "a,b", "--stop", r"\n\n"]
    params = read_controls(parse_arguments(flags))
    assert params.top_k == 5
    assert params.stop == ("a,b", "\n\n")


def test_help_lists_every_control_with_the_text_of_the_table() -> None:
    text = " ".join(terminal("--help").stdout.split())
    for control in CONTROLS:
        assert control.flag in text
        assert control.help in text
