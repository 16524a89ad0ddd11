"""Beginnings to try: one set for a GPT-J, one for the sample model, which knows only tales."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from gptj_demo.ui.files import read_asset


class ExamplePrompts(gr.HTML):
    """A row of buttons; each puts a beginning into the editor, as a step that can be undone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            html_template=read_asset("example_prompts.html"),
            js_on_load=read_asset("example_prompts.js"),
            apply_default_css=False,
            examples=json.loads(read_asset("examples.json")),
            **options,
        )
