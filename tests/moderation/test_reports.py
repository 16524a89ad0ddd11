"""Reported texts: what is kept of them, and what is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.client import reports
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.reports import MAX_BYTES, MAX_CHARACTERS, PER_ADDRESS, Reports
from gptj_demo.settings import InvalidSettings


def kept(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_report_is_one_line_without_the_address(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    Reports(path).add("192.0.2.7", "Bad\ntext \ud83d é", "It is bad.", {"top_k": 5}, {"name": "x"})
    line = path.read_text("ascii")
    assert "192.0.2" not in line
    assert line.count("\n") == 1
    (report,) = kept(path)
    assert report.keys() == {"time", "text", "reason", "controls", "model"}
    assert report["text"] == "Bad\ntext \ud83d é"


@pytest.mark.parametrize("text", ["", " \n", "x" * (MAX_CHARACTERS + 1)])
def test_texts_that_are_empty_or_too_long_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RequestRefused):
        Reports(tmp_path / "reports").add("a", text, "", {}, {})
    assert not (tmp_path / "reports").read_bytes()


def test_one_address_can_send_a_few_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "reports"
    file = Reports(path)
    for _ in range(PER_ADDRESS.amount):
        file.add("a", "text", "", {}, {})
    with pytest.raises(RequestRefused, match="Too many"):
        file.add("a", "text", "", {}, {})
    file.add("b", "text", "", {}, {})
    assert len(kept(path)) == PER_ADDRESS.amount + 1


def test_a_full_file_is_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reports"
    monkeypatch.setattr(reports, "MAX_BYTES", 300)
    file = Reports(path)
    file.add("a", "x" * 100, "", {}, {})
    with pytest.raises(RequestRefused, match="full"):
        file.add("a", "x" * 100, "", {}, {})
    assert path.stat().st_size <= 300 < MAX_BYTES
    assert str(path) in caplog.text, "nothing tells the deployer"


def test_a_full_disk_is_refused_without_a_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reports"
    file = Reports(path)
    file.add("a", "first", "", {}, {})
    before = path.read_bytes()
    usual = Path.open

    def fill(self: Path, *given: Any, **options: Any) -> Any:
        opened = usual(self, *given, **options)

        class Full(io.TextIOWrapper):
            def write(self, text: str) -> int:
                opened.write(text[:20])
                opened.close()
                raise OSError(errno.ENOSPC, "No space left on device")

        return Full(io.BytesIO())

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fill)
        with pytest.raises(RequestRefused, match="could not be written"):
            file.add("a", "second, which a visitor wrote", "", {}, {})
    assert path.read_bytes() == before
    assert f"{path}: No space left on device" in caplog.text
    assert "second" not in caplog.text
    file.add("a", "third", "", {}, {})
    assert [one["text"] for one in kept(path)] == ["first", "third"]


def test_failures_count_so_that_the_log_stays_short(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "folder").mkdir()
    file = Reports(tmp_path / "folder" / "reports")
    shutil.rmtree(tmp_path / "folder")
    for _ in range(PER_ADDRESS.amount):
        with pytest.raises(RequestRefused, match="could not be written"):
            file.add("a", "text", "", {}, {})
    with pytest.raises(RequestRefused, match="Too many"):
        file.add("a", "text", "", {}, {})
    assert len(caplog.records) == PER_ADDRESS.amount


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing/reports", "No such file or directory"),
        ("file/reports", "Not a directory"),
        ("folder", "not a file"),
        ("pipe", "not a file"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_written_ends_the_start(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidSettings, match=said):
        Reports(tmp_path / name)


def test_a_full_disk_does_not_end_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    Reports(tmp_path / "reports")
