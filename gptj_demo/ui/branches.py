"""The Branches view: all texts of a session as a tree, and the visitor's sessions.

Both live in the visitor's browser: `assets/core/tree.js`, `assets/core/sessions.js` and
`assets/views/branches/`.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.client import Worker
from gptj_demo.ui.component import ModuleHTML


class Branches(ModuleHTML):
    """The outline, the chosen node beside it, and the list of sessions above."""

    def __init__(self, **options: Any) -> None:
        super().__init__("views/branches/branches", **options)


def build_branches(worker: Worker) -> None:
    """Lay out the view in the present Blocks; it does not use the worker."""
    Branches(elem_id="branches")
