"""Checks inputs that programs pass to the page's functions; Gradio does not check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr


def require_string(**inputs: Any) -> None:
    """Raise `gr.Error` for the first input that is not a string."""
    for name, value in inputs.items():
        if not isinstance(value, str):
            raise gr.Error(f"{name} must be a string.", print_exception=False)


def require_object(**inputs: Any) -> None:
    """Raise `gr.Error` for the first input that is not a JSON object."""
    for name, value in inputs.items():
        if not isinstance(value, Mapping):
            raise gr.Error(f"{name} must be an object.", print_exception=False)


def require_lists(**inputs: Any) -> None:
    """Raise `gr.Error` for the first input that is not an object of lists of strings."""
    require_object(**inputs)
    for name, lists in inputs.items():
        for values in lists.values():
            if not (isinstance(values, list) and all(isinstance(one, str) for one in values)):
                raise gr.Error(f"{name} must hold lists of strings.", print_exception=False)
