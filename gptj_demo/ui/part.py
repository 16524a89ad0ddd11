"""A part of the page: a fixed template and a script of its own, which lie in `assets/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from gptj_demo.sampling import CONTROLS
from gptj_demo.ui.files import read_asset

LABELS = {control.name: control.label for control in CONTROLS}
"""The controls' names for people, by name: for scripts that speak of controls."""


class Part(gr.HTML):
    """`assets/NAME.html`, and `assets/NAME.js` unless other scripts are given."""

    def __init__(self, name: str, scripts: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(
            html_template=read_asset(f"{name}.html"),
            js_on_load="".join(map(read_asset, scripts or (f"{name}.js",))),
            apply_default_css=False,
            **options,
        )


class LogPart(Part):
    """A part whose value is a log: one JSON record a line, to which a running request appends.

    So only what is new crosses to the page (Gradio sends a suffix where the new value begins with
    the old one), and the model's words reach the page as data, never as markup.
    """

    def __init__(self, name: str, scripts: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(name, scripts, value="", **options)

    def postprocess(self, value: str | None) -> str | None:
        """The log as it is: it is never put into the template."""
        return value

    def write_log(
        self, event: Callable[..., Any], function: Callable[..., Any], *inputs: Any
    ) -> None:
        """On an event of the part's own, let `function` yield the log as it grows."""
        event(
            function,
            list(inputs),
            self,
            api_name=f"{self.elem_id}_{function.__name__}",  # not another's of the page's functions
            api_visibility="private",
            concurrency_limit=None,
            show_progress="hidden",
            trigger_mode="multiple",  # else one that comes at the end of another is dropped
        )
