"""The page's styles, scripts and example prompts, which lie in `assets/` as plain files."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"


def read_asset(name: str) -> str:
    """The text of one file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")
