"""Beginnings to try: examples for a GPT-J and for the sample model, and scaffolds to fill in."""

from __future__ import annotations

import json
from typing import Any

from gptj_demo.ui.assets import read_asset
from gptj_demo.ui.component import ModuleHTML


class Beginnings(ModuleHTML):
    """A row of buttons; each puts a beginning into the editor, which undo reverts.

    A scaffold first asks for a few words, then also sets controls suited to its kind of document.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "views/write/beginnings",
            examples=json.loads(read_asset("views/write/examples.json")),
            scaffolds=json.loads(read_asset("views/write/scaffolds.json")),
            **options,
        )
