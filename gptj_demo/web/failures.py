"""Failures of our own code as the log shows them: their kind and place, never their message.

The message of an exception often contains a part of what a visitor sent.
"""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path
from types import TracebackType

FRAMES = 12
"""How many frames of a failure are logged, the innermost ones."""
REPEAT_SECONDS = 10.0


def describe_failure(error: BaseException) -> str:
    """The types of an exception and of its causes, each with where it was raised, in one line."""
    parts = []
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        frames = traceback.extract_tb(step.__traceback__)[-FRAMES:]
        places = (f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
        parts.append(f"{type(step).__name__} at {' < '.join(places) or 'an unknown place'}")
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return "; because of ".join(parts)


class PlainFormatter(logging.Formatter):
    """Log lines without the messages of exceptions."""

    def formatException(
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "" if ei[1] is None else describe_failure(ei[1])


class FirstLine(logging.Filter):
    """Keeps the first line of a message: asyncio's further lines show tasks and exceptions.

    The same line comes once in `REPEAT_SECONDS`: while no file can be opened, asyncio logs each
    connection that it cannot accept, many times a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last = ""
        self._until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = record.getMessage().partition("\n")[0], None
        now = time.monotonic()
        if record.msg == self._last and now < self._until:
            return False
        self._last, self._until = record.msg, now + REPEAT_SECONDS
        return True


def configure_logs() -> None:
    """Log to standard error from now on, in the format above."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("asyncio").addFilter(FirstLine())
    logging.raiseExceptions = False  # a log on a full disk would get tracebacks with the messages
