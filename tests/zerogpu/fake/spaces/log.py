"""The events that ZeroGPU's scheduler would see, in a file."""

from __future__ import annotations

import json
import os
from typing import Any


def note(event: str, **values: Any) -> None:
    """Append an event."""
    line = json.dumps({"event": event, **values}) + "\n"
    with open(os.environ["FAKE_SPACES_LOG"], "a", encoding="utf-8") as file:
        file.write(line)
