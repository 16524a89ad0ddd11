"""What a request gave besides the text: other completions, probabilities, a score, notes.

It hears of the request from the editor, in the visitor's browser: `assets/results.js`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from gptj_demo.sampling import CONTROLS
from gptj_demo.ui.files import read_asset


class Results(gr.HTML):
    """A panel that is there only while there is something in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            html_template=read_asset("results.html"),
            js_on_load=read_asset("results.js"),
            apply_default_css=False,
            labels={control.name: control.label for control in CONTROLS},
            **options,
        )
