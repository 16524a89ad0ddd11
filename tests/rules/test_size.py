"""No file over 400 lines, no class over 250."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.processes import ROOT

FILE_LINES = 400
CLASS_LINES = 250
MAX_EXCEPTIONS = 3
FOLDERS = ("gptj_demo", "assets", "tests", "benchmarks", "tools")
SUFFIXES = (".py", ".js", ".css")
JS_CLASS = re.compile(r"^(?:export (?:default )?)?class (\w+).*?^}", re.MULTILINE | re.DOTALL)

# files and classes that stay above the limit, each with the reason
EXCEPTIONS: dict[str, str] = {}


def sources() -> list[Path]:
    """app.py and the Python, JavaScript and CSS files of every folder of ours."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*"))
    return [ROOT / "app.py", *sorted(path for path in found if path.suffix in SUFFIXES)]


def classes(path: Path, text: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each class in a file."""
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                yield node.name, node.end_lineno - node.lineno + 1
    elif path.suffix == ".js":
        for match in JS_CLASS.finditer(text):
            yield match[1], match[0].count("\n") + 1


def too_long() -> dict[str, int]:
    """Lines of each file and class above its limit, by `path` or `path:class`."""
    found: dict[str, int] = {}
    for path in sources():
        name, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        if (lines := text.count("\n")) > FILE_LINES:
            found[name] = lines
        found |= {f"{name}:{c}": n for c, n in classes(path, text) if n > CLASS_LINES}
    return found


def test_files_and_classes_stay_short() -> None:
    new = {name: n for name, n in too_long().items() if name not in EXCEPTIONS}
    assert not new, f"split these ({FILE_LINES} lines a file, {CLASS_LINES} a class): {new}"


def test_every_exception_is_still_too_long() -> None:
    stale = sorted(EXCEPTIONS.keys() - too_long().keys())
    assert not stale, f"no longer too long; remove from EXCEPTIONS: {stale}"


def test_exceptions_are_few_and_explained() -> None:
    assert len(EXCEPTIONS) <= MAX_EXCEPTIONS
    assert all(EXCEPTIONS.values())
