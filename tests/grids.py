"""Comparisons for the tests of templates, axes and grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gptj_demo.ui.grid import Grid, make_grid


def grid_of(
    prompt: str = "P",
    placeholders: dict[str, Sequence[str]] | None = None,
    rows: tuple[str, str] = ("", ""),
    columns: tuple[str, str] = ("", ""),
    controls: dict[str, Any] | None = None,
    same_seed: bool = True,
    seed: int = 7,
) -> Grid:
    return make_grid(
        prompt, placeholders, rows, columns, controls or {}, seed=seed, same_seed=same_seed
    )
