"""A line for each request of the API on standard error: times and counts, never text."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any


def write_line(fields: dict[str, Any]) -> None:
    """Write one JSON object in a line, with the time of day in front, if it can be written."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    with suppress(OSError):  # a full disk must not cost the caller the answer
        print(json.dumps({"time": now, **fields}), file=sys.stderr, flush=True)
