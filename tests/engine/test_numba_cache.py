"""Compiled code where its cache cannot be written or read: on full disks and in read-only trees."""

from __future__ import annotations

import errno
import importlib.util
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from numba import config
from numba.core.caching import IndexDataCacheFile

from gptj_demo.engine import compilation, numba_cache

SOURCE = """
from gptj_demo.engine.numba_cache import cached_njit

@cached_njit()
def double(x):
    return x + x
"""


@pytest.fixture(autouse=True)
def warns_anew() -> Iterator[None]:
    numba_cache._warn.cache_clear()
    yield
    numba_cache._warn.cache_clear()


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    """Imports a module with a function to compile, as another process would."""
    source = tmp_path / "module.py"
    source.write_text(SOURCE)
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))  # numba may read it again

    def start() -> ModuleType:
        spec = importlib.util.spec_from_file_location("module", source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(compilation, "compiled_functions", lambda: [module.double])
        return module

    return start


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_compiled_code_is_kept_for_the_next_process(process: Callable[[], ModuleType]) -> None:
    assert process().double(3) == 6
    assert compilation.has_compiled()
    assert process().double(3) == 6
    assert not compilation.has_compiled()


@pytest.mark.parametrize("step", ["_save_index", "_save_data"])
def test_a_full_disk_is_a_warning(
    process: Callable[[], ModuleType],
    step: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(IndexDataCacheFile, step, full)
        module = process()
        assert module.double(3) == 6
        assert module.double(1.5) == 3.0
    assert not compilation.has_compiled(), "another process would compile it again"
    (said,) = caplog.messages
    assert "No space left on device" in said
    assert "set NUMBA_CACHE_DIR" in said
    assert process().double(3) == 6


def test_without_any_folder_for_it_code_is_compiled(
    process: Callable[[], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_folder(self: Any, function: Any) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba_cache.FunctionCache, "__init__", no_folder)
    assert process().double(3) == 6
    assert not compilation.has_compiled()
    (said,) = caplog.messages
    assert "no folder for it can be written" in said


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("kept", [0, 30])
def test_a_file_that_was_cut_off_is_written_again(
    process: Callable[[], ModuleType], tmp_path: Path, suffix: str, kept: int
) -> None:
    """As after a loss of power."""
    assert process().double(3) == 6
    (file,) = (tmp_path / "cache").rglob(f"*{suffix}")
    file.write_bytes(file.read_bytes()[:kept])
    assert process().double(3) == 6
    assert compilation.has_compiled()
    assert process().double(3) == 6
    assert not compilation.has_compiled()
