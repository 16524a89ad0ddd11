"""The editor: one text that a person and the model write in turns, with buttons and status.

The text itself, who wrote what, and every step of it live in the visitor's browser:
`assets/views/write/`.
"""

from __future__ import annotations

from typing import Any

from gptj_demo.ui.component import LogHTML


class Editor(LogHTML):
    """Events: `generate` (prompt, retry, id, controls), with the log as output, and `use_controls`.

    `controls` are this request's overrides of the panel. `server_functions` must
    hold `count_tokens(text)`, `unread({text, max_new_tokens})`, `stop(id)` and
    `score({id, text, logprobs})`, which the script calls.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            "views/write/editor",
            ("generate", "use_controls"),
            **options,
        )
