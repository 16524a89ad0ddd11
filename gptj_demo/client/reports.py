"""Texts that visitors report, in a file that the deployer chose: one JSON object a line."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.settings import InvalidSettings
from gptj_demo.texts import message

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 20_000  # of a reported text
MAX_REASON = 1_000
MAX_BYTES = 50 * 2**20  # of the file
PER_ADDRESS = RateLimitItemPerHour(10)
PER_HOUR = RateLimitItemPerHour(500)  # of all addresses together


class Reports:
    """Appends reports to a file. Thread-safe.

    A report holds a text, the visitor's reason, the settings and the model; no name, no address.
    Raises `InvalidSettings` if the file cannot be written, except where the disk is full.
    """

    def __init__(self, path: Path) -> None:
        _check(path)
        self._path = path
        self._lock = threading.Lock()
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def add(
        self, address: str, text: str, reason: str, controls: dict[str, Any], model: dict[str, Any]
    ) -> None:
        """Write a report; raises `RequestRefused`. The address is only counted."""
        if not text.strip():
            raise RequestRefused("invalid", message("report.empty"))
        if len(text) > MAX_CHARACTERS:
            raise RequestRefused("invalid", message("report.too_long", most=MAX_CHARACTERS))
        with self._lock:
            for limit, name in ((PER_ADDRESS, address), (PER_HOUR, "all")):
                if not self._limiter.test(limit, name):
                    raise RequestRefused("queue_full", message("report.too_many"))
            line = json.dumps(
                {
                    "time": math.floor(time.time()),
                    "text": text,
                    "reason": reason[:MAX_REASON],
                    "controls": controls,
                    "model": model,
                },
                ensure_ascii=True,  # half surrogates stay readable
            )
            self._limiter.hit(PER_ADDRESS, address)  # before it may fail, as that is logged
            self._limiter.hit(PER_HOUR, "all")
            try:
                self._append(line + "\n")
            except OSError as error:
                logger.error("a report could not be written to %s: %s", self._path, error.strerror)
                raise RequestRefused("unavailable", message("report.cannot_be_kept")) from None

    def _append(self, line: str) -> None:
        """Add a line to the file, all of it or nothing; raises `OSError` or `RequestRefused`."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size + len(line) > MAX_BYTES:
            logger.error("%s has %d MB: no more reports are written to it", self._path, size >> 20)
            raise RequestRefused("unavailable", message("report.full"))
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(line)
        except OSError:
            with suppress(OSError):  # a part of it may have had room
                os.truncate(self._path, size)
            raise


def _check(path: Path) -> None:
    try:
        if path.exists() and not path.is_file():
            raise InvalidSettings(f"reports is {path}, which is not a file: name a file.")
        path.open("a").close()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # there may be room later
            raise InvalidSettings(
                f"reports is {path}, which cannot be written: {error.strerror}. Name a file in a "
                "folder that exists and can be written."
            ) from None
