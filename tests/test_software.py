"""The fingerprint changes with the code that computes results, and with nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gptj_demo import software
from gptj_demo.software import (
    compiled_sources,
    computing_sources,
    numba_cache_folder,
    without_docstrings,
)

CODE = '''"""Adds."""

def add(a, b):
    """The sum."""
    return a + b  # of two
'''


def test_comments_docstrings_and_layout_do_not_change_the_fingerprint() -> None:
    same = "def add(a,\n        b):\n    return (a + b)"
    assert without_docstrings(CODE) == without_docstrings(same)


@pytest.mark.parametrize("other", [CODE.replace("a + b", "b + a"), CODE.replace("add", "plus")])
def test_changed_code_changes_the_fingerprint(other: str) -> None:
    assert without_docstrings(CODE) != without_docstrings(other)


def test_the_fingerprint_covers_computing_code_only() -> None:
    names = {path.relative_to(software.PACKAGE).as_posix() for path in computing_sources()}
    assert {"engine/sampling/batch.py", "engine/model/eager.py", "sampling.py"} <= names
    assert not any(name.startswith(("ui/", "api/", "client/")) for name in names)


def test_compiled_code_is_cached_for_each_version_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own = numba_cache_folder()
    assert own is not None  # this checkout can be written
    assert Path(own).parent == software.PACKAGE / "engine" / "__pycache__"
    name = Path(own).name
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: p != Path(own) and access(p, mode))
    assert numba_cache_folder() == str(tmp_path / "gptj-playground" / "numba" / name)
    for _ in range(2):  # child processes inherit the engine's variable
        monkeypatch.setenv("NUMBA_CACHE_DIR", numba_cache_folder() or "")
    assert numba_cache_folder() == str(tmp_path / "gptj-playground" / "numba" / name)
    changed = tmp_path / "vectors.py"
    changed.write_text("LANES = 8")
    monkeypatch.setattr(software, "compiled_sources", lambda: [changed])
    software._compiled_version.cache_clear()
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(elsewhere))
    assert Path(numba_cache_folder() or "").parent == elsewhere
    assert Path(numba_cache_folder() or "").name != name
    software._compiled_version.cache_clear()


def test_the_sources_of_compiled_code_are_those_that_numba_reads() -> None:
    names = {path.relative_to(software.PACKAGE).as_posix() for path in compiled_sources()}
    cpu = {f"engine/model/cpu/{name}.py" for name in ("vectors", "elementwise", "int8_kernels")}
    assert names >= {"pages.py", "engine/sampling/compiled.py", *cpu}


def test_a_cache_folder_that_cannot_be_made_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba itself would then put the code beside its source, where no version is looked at."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    own = Path(numba_cache_folder() or "")
    assert own.parent == software.PACKAGE / "engine" / "__pycache__"
    monkeypatch.setattr(os, "access", lambda path, mode: path != own)
    assert numba_cache_folder() == str(tmp_path / "own" / "gptj-playground" / "numba" / own.name)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert numba_cache_folder() is None
