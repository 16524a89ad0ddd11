"""The editor: one text, written by a person and a model in turns, with its buttons and its status.

The component's value is a log: one JSON record a line, to which a running request appends. So only
what is new crosses to the page (Gradio sends a suffix where the new value begins with the old one),
and the model's words reach the page as data, never as markup. The text itself, who wrote what, and
every step of it live in the visitor's browser: `assets/editor.js`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from gptj_demo.sampling import CONTROLS
from gptj_demo.ui.files import read_asset

SCRIPTS = ("loops.js", "asides.js", "inspector.js", "tokens.js", "editor.js")


class Editor(gr.HTML):
    """Events: `generate` (prompt, retry, id, controls), with the log as output, `keep_seed` (seed).

    `controls` are those that the request alone has other than the panel. `server_functions` must
    hold `count_tokens(text)`, `unread({text, max_new_tokens})`, `stop(id)` and
    `score({id, text, logprobs})`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            value="",
            html_template=read_asset("editor.html"),
            js_on_load="".join(map(read_asset, SCRIPTS)),
            apply_default_css=False,
            labels={control.name: control.label for control in CONTROLS},
            **options,
        )

    def postprocess(self, value: str | None) -> str | None:
        """The log as it is: it is never put into the template."""
        return value
