"""The About view: the model and its load, the model's card, where texts are stored."""

from __future__ import annotations

from typing import Any

from gptj_demo.client import Worker
from gptj_demo.ui.component import ModuleHTML


class About(ModuleHTML):
    """Fixed texts, and figures from the event "status", updated while the view is shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__("views/about/about", **options)


def build_about(worker: Worker) -> None:
    """Lay out the view in the present Blocks; the model's status fills in the figures."""
    About(elem_id="about")
