"""The page's styles, scripts and example prompts, which lie in `assets/` as plain files."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"


def read_asset(name: str) -> str:
    """The text of one file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def read_styles() -> str:
    """All styles: those of the whole page first, then those of single parts."""
    parts = sorted(path.name for path in ASSETS.glob("*.css") if path.name != "page.css")
    return "\n".join(read_asset(name) for name in ["page.css", *parts])


def read_scripts() -> str:
    """The scripts that all parts use, each with names of its own but for what it adds to `gptj`."""
    shared = ["document.js", "tree.js", "sessions.js"]
    apart = [f"(() => {{\n{read_asset(name)}}})();" for name in shared]
    return "\n".join([read_asset("playground.js"), *apart])
