"""The Branches view: all texts of a session as a tree, and the visitor's sessions.

Both live in the visitor's browser: `assets/tree.js`, `assets/sessions.js`, `assets/branches.js`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from gptj_demo.sampling import CONTROLS
from gptj_demo.ui.files import read_asset
from gptj_demo.worker import Worker


class Branches(gr.HTML):
    """The outline, the chosen node beside it, and the list of sessions above."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            html_template=read_asset("branches.html"),
            js_on_load=read_asset("branches.js"),
            apply_default_css=False,
            labels={control.name: control.label for control in CONTROLS},
            **options,
        )


def build_branches(worker: Worker) -> None:
    """Lay out the view in the present Blocks; it asks nothing of the worker."""
    Branches(elem_id="branches")
