"""A request's results besides the text: other completions, probabilities, a score, notes.

The editor passes them on in the visitor's browser: `assets/views/write/results.js`.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.ui.component import ModuleHTML


class Results(ModuleHTML):
    """A panel that is hidden while it is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__("views/write/results", **options)
