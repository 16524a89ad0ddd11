"""Folders for temporary files that cannot be written."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.settings import InvalidSettings
from gptj_demo.temporary import GRADIO, check_temporary_folder, choose_gradio_folder
from tests.processes import App
from tests.waiting import eventually


def test_the_usual_folder_of_gradio_is_kept_where_it_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GRADIO, str(tmp_path / "gradio"))
    choose_gradio_folder()
    assert os.environ[GRADIO] == str(tmp_path / "gradio")
    monkeypatch.delenv(GRADIO)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    choose_gradio_folder()
    assert GRADIO not in os.environ


def test_a_folder_that_cannot_be_made_is_replaced_and_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    monkeypatch.setattr(atexit, "register", lambda end, *given, **_: ends.append((end, given)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "gradio").touch()  # in place of a folder that belongs to somebody else
    monkeypatch.delenv(GRADIO, raising=False)
    monkeypatch.setenv(GRADIO, "")  # so that it is restored
    choose_gradio_folder()
    own = Path(os.environ[GRADIO])
    assert own.parent == tmp_path
    assert own.is_dir()
    ((end, given),) = ends
    end(*given)
    assert not own.exists()


def test_without_room_for_any_folder_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(GRADIO, str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(InvalidSettings, match=f"{tmp_path}/file cannot be made: Not a directory"):
        choose_gradio_folder()


@pytest.mark.parametrize("given", [None, "/given"])
def test_no_folder_for_temporary_files_is_reported(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    if given is not None:
        monkeypatch.setenv("TMPDIR", given)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(InvalidSettings, match="set TMPDIR to a folder") as refusal:
        check_temporary_folder()
    assert (given or "/var/tmp") in str(refusal.value)


def test_the_program_starts_where_gradios_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    app = App("--model", "sample", environment={GRADIO: str(tmp_path / "file" / "gradio")})
    try:
        eventually(app.is_up)
    finally:
        app.stop()
    assert app.process.returncode == 0
