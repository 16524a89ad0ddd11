"""Texts that visitors report, in a file that the deployer chose: one JSON object a line."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path
from typing import Any

from limits import RateLimitItemPerHour
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from gptj_demo.client.refusal import RequestRefused
from gptj_demo.texts import message

MAX_CHARACTERS = 20_000  # of a reported text
MAX_REASON = 1_000
MAX_BYTES = 50 * 2**20  # of the file
PER_ADDRESS = RateLimitItemPerHour(10)
PER_HOUR = RateLimitItemPerHour(500)  # of all addresses together


class Reports:
    """Appends reports to a file. Thread-safe.

    A report holds a text, the visitor's reason, the settings and the model; no name, no address.
    """

    def __init__(self, path: Path) -> None:
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
            try:
                size = self._path.stat().st_size if self._path.exists() else 0
                if size + len(line) + 1 > MAX_BYTES:
                    raise RequestRefused("unavailable", message("report.full"))
                with self._path.open("a", encoding="ascii") as file:
                    file.write(line + "\n")
            except OSError:
                raise RequestRefused("unavailable", message("report.cannot_be_kept")) from None
            self._limiter.hit(PER_ADDRESS, address)
            self._limiter.hit(PER_HOUR, "all")
