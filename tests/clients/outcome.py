"""How a client's script ended."""

from __future__ import annotations

import subprocess
from typing import NamedTuple


class Outcome(NamedTuple):
    """Whether a client did all that its script asks; `said` is its version, or what failed."""

    succeeded: bool
    said: str

    @classmethod
    def of(cls, ran: subprocess.CompletedProcess[str]) -> Outcome:
        """The outcome of a program that prints the version in its last line."""
        if ran.returncode == 0:
            return cls(True, ran.stdout.strip().splitlines()[-1])
        return cls(False, f"{ran.stdout[-1000:]}{ran.stderr[-2000:]}")
