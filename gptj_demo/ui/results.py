"""What a request gave besides the text: other completions, probabilities, a score, notes.

It hears of the request from the editor, in the visitor's browser: `assets/views/write/results.js`.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.ui.component import ModuleHTML


class Results(ModuleHTML):
    """A panel that is there only while there is something in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__("views/write/results", **options)
