"""Where the program runs: on a Space of Hugging Face, and whether that has a GPU only on loan."""

from __future__ import annotations

import os


def is_on_a_space() -> bool:
    """Whether this is a Space."""
    return os.environ.get("SYSTEM") == "spaces"


def is_on_zerogpu() -> bool:
    """Whether this is a ZeroGPU Space, where each visitor's requests borrow a GPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
