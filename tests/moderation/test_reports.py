"""Reported texts: what is kept of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gptj_demo.client import reports
from gptj_demo.client.refusal import RequestRefused
from gptj_demo.client.reports import MAX_BYTES, MAX_CHARACTERS, PER_ADDRESS, Reports


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
    assert not (tmp_path / "reports").exists()


def test_one_address_can_send_a_few_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "reports"
    file = Reports(path)
    for _ in range(PER_ADDRESS.amount):
        file.add("a", "text", "", {}, {})
    with pytest.raises(RequestRefused, match="Too many"):
        file.add("a", "text", "", {}, {})
    file.add("b", "text", "", {}, {})
    assert len(kept(path)) == PER_ADDRESS.amount + 1


def test_a_full_file_and_a_missing_folder_are_refused_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reports"
    monkeypatch.setattr(reports, "MAX_BYTES", 300)
    file = Reports(path)
    file.add("a", "x" * 100, "", {}, {})
    with pytest.raises(RequestRefused, match="full"):
        file.add("a", "x" * 100, "", {}, {})
    assert path.stat().st_size <= 300 < MAX_BYTES
    with pytest.raises(RequestRefused, match="could not be written"):
        Reports(tmp_path / "missing" / "reports").add("a", "x", "", {}, {})
