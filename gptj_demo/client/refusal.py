"""Why a request was not taken."""

from __future__ import annotations

from gptj_demo.returned import RefusalKind
from gptj_demo.texts import Message, MessageError

__all__ = ["RefusalKind", "RequestRefused"]


class RequestRefused(MessageError):
    """A request was not taken; the message is for people, `kind` for programs.

    `control` names the control that was wrong, if one was.
    """

    def __init__(self, kind: RefusalKind, message: Message, control: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.control = control
