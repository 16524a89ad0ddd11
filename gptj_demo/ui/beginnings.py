"""Beginnings to try: examples for a GPT-J and for the sample model, and scaffolds to fill in."""

from __future__ import annotations

import json
from typing import Any

from gptj_demo.ui.files import read_asset
from gptj_demo.ui.part import Part


class Beginnings(Part):
    """A row of buttons; each puts a beginning into the editor, as a step that can be undone.

    A scaffold asks for a few words first, and sets the controls that fit its kind of document.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "beginnings",
            scripts=("scaffolds.js", "beginnings.js"),
            examples=json.loads(read_asset("examples.json")),
            scaffolds=json.loads(read_asset("scaffolds.json")),
            **options,
        )
