"""The editor: one text, written by a person and a model in turns, with its buttons and its status.

The text itself, who wrote what, and every step of it live in the visitor's browser:
`assets/editor.js`.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.ui.part import LABELS, LogPart

SCRIPTS = ("loops.js", "asides.js", "inspector.js", "tokens.js", "editor.js")


class Editor(LogPart):
    """Events: `generate` (prompt, retry, id, controls), with the log as output, `keep_seed` (seed).

    `controls` are those that the request alone has other than the panel. `server_functions` must
    hold `count_tokens(text)`, `unread({text, max_new_tokens})`, `stop(id)` and
    `score({id, text, logprobs})`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("editor", SCRIPTS, labels=LABELS, **options)
