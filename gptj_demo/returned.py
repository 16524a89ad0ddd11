"""Requests that an engine returns unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gptj_demo.texts import Message

RefusalKind = Literal["invalid", "too_long", "queue_full", "unavailable"]


@dataclass(frozen=True, slots=True)
class Lapsed:
    """One of several engines ended while it had these requests, which must be sent again.

    `why` is the message for requests that several engines could not continue; `is_shared` says
    whether visitors shared the engine.
    """

    request_ids: tuple[int, ...]
    why: Message
    is_shared: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """These requests cannot be continued; they end with the message `why`.

    Those that have not started are refused as `kind`.
    """

    request_ids: tuple[int, ...]
    kind: RefusalKind
    why: Message
