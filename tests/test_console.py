"""Text from and to a terminal: any input is a prompt or refused in one sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptj_demo.console import (
    UnreadableText,
    escape_controls,
    read_prompt,
    safe_for,
    show_any_character,
)
from tests.engine.checkpoints import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        (b"The lamp\n", "The lamp"),
        (b"The lamp", "The lamp"),
        (b"\xef\xbb\xbfThe lamp\r\nwas lit.\r\n", "The lamp\nwas lit."),
        (b"a\n\n", "a\n"),
        (b"", ""),
    ],
)
def test_a_prompt_may_have_a_byte_order_mark_and_any_line_ends(written: bytes, prompt: str) -> None:
    assert read_prompt("-", io.BytesIO(written)) == prompt


def test_a_prompt_that_is_not_text_is_refused_with_the_place() -> None:
    with pytest.raises(UnreadableText, match="byte 3 is 0xff"):
        read_prompt("-", io.BytesIO(b"abc\xff"))
    with pytest.raises(UnreadableText, match="not text"):
        read_prompt(os.fsdecode(b"abc\xff"), io.BytesIO())


@given(st.text())
def test_printable_text_is_unchanged_and_terminal_controls_are_escaped(text: str) -> None:
    shown = escape_controls(text, keep="\n\t")
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert safe_for(io.StringIO(), text) == text
    if text.isprintable():
        assert shown == text


def test_a_stream_that_lacks_a_character_shows_its_escape() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    show_any_character(stream, None)
    print("\u201cJa\u201d, sagte Zoë 🜂", file=stream, flush=True)
    assert written.getvalue() == b"\\u201cJa\\u201d, sagte Zo\\xeb \\U0001f702\n"


@pytest.mark.parametrize("stdin", [b"caf\xe9", b"\xff\xfeT\x00"])
def test_the_program_refuses_input_that_is_not_utf_8_with_one_sentence(stdin: bytes) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "gptj_demo", "-"],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"Standard input is not UTF-8 text")
    assert ran.stderr.count(b"\n") == 1


def test_the_program_writes_to_an_output_that_has_only_ascii(tmp_path: Path) -> None:
    options = ["--model", str(make_checkpoint(tmp_path)), "--max-new-tokens", "3"]
    ran = subprocess.run(
        [sys.executable, "-m", "gptj_demo", "Zoë\u2019s lamp", "--echo", *options],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert ran.stdout.isascii()
