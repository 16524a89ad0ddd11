"""The examples of docs/api.md and README.md, as they stand there, against a running playground."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest

from .conftest import ROOT, Playground

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = [
    *re.findall(r"```(python|bash)\n(.*?)```", PAGE, flags=re.DOTALL),
    *(
        (language, textwrap.dedent(code))
        for language, code in re.findall(r"  ```(python)\n(.*?)```", README, flags=re.DOTALL)
    ),
]
SNIPPETS = [one for one in EXAMPLES if "langchain" not in one[1]]
"""The others need packages that `make evaluation` installs; see tests/evaluation."""


def test_there_are_examples() -> None:
    assert [language for language, _ in SNIPPETS] == [
        "python", "python", "bash", "python", "python",
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "code"), SNIPPETS)
def test_the_example_runs(playground: Playground, language: str, code: str) -> None:
    run_example(playground, language, code)


def run_example(playground: Playground, language: str, code: str) -> None:
    """Run an example against a playground; fails the test where it fails."""
    code = code.replace("http://127.0.0.1:7860", playground.url)
    program = [sys.executable, "-c"] if language == "python" else ["bash", "-e", "-c"]
    ran = subprocess.run([*program, code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout) > 40
    assert '"error"' not in ran.stdout
