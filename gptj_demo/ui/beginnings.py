"""Beginnings to try: examples for a GPT-J and for the sample model, and scaffolds to fill in."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from gptj_demo.ui.files import read_asset


class Beginnings(gr.HTML):
    """A row of buttons; each puts a beginning into the editor, as a step that can be undone.

    A scaffold asks for a few words first, and sets the controls that fit its kind of document.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            html_template=read_asset("beginnings.html"),
            js_on_load=read_asset("scaffolds.js") + read_asset("beginnings.js"),
            apply_default_css=False,
            examples=json.loads(read_asset("examples.json")),
            scaffolds=json.loads(read_asset("scaffolds.json")),
            **options,
        )
