"""The About view: what answers and how busy it is, the model's card, where texts are kept."""

from __future__ import annotations

from typing import Any

from gptj_demo.client import Worker
from gptj_demo.ui.component import ModuleHTML


class About(ModuleHTML):
    """Fixed words, and figures that the news "status" brings while the view is shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__("views/about/about", **options)


def build_about(worker: Worker) -> None:
    """Lay out the view in the present Blocks; what runs is told by the model's status."""
    About(elem_id="about")
