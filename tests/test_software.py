"""The fingerprint of the code changes with what computes, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gptj_demo import software
from gptj_demo.software import computing_sources, numba_cache_folder, without_docstrings

CODE = '''"""Adds."""

def add(a, b):
    """The sum."""
    return a + b  # of two
'''


def test_comments_docstrings_and_layout_do_not_count() -> None:
    same = "def add(a,\n        b):\n    return (a + b)"
    assert without_docstrings(CODE) == without_docstrings(same)


@pytest.mark.parametrize("other", [CODE.replace("a + b", "b + a"), CODE.replace("add", "plus")])
def test_code_counts(other: str) -> None:
    assert without_docstrings(CODE) != without_docstrings(other)


def test_what_computes_counts_and_page_and_api_do_not() -> None:
    names = {path.relative_to(software.PACKAGE).as_posix() for path in computing_sources()}
    assert {"engine/sampling/batch.py", "engine/model/eager.py", "sampling.py"} <= names
    assert not any(name.startswith(("ui/", "api/", "client/")) for name in names)


def test_a_package_that_cannot_be_written_has_its_cache_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert numba_cache_folder() is None  # this checkout can be written
    access = os.access
    read_only = software.PACKAGE / "engine"
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != read_only and access(p, mode))
    assert numba_cache_folder() == str(tmp_path / "gptj-playground" / "numba")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    assert numba_cache_folder() is None


def test_a_cache_folder_that_cannot_be_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert numba_cache_folder() is None
