"""Detects whether the program runs on a Hugging Face Space, and whether on a ZeroGPU Space."""

from __future__ import annotations

import os


def is_on_a_space() -> bool:
    """Whether this is a Space."""
    return os.environ.get("SYSTEM") == "spaces"


def is_on_zerogpu() -> bool:
    """Whether this is a ZeroGPU Space, where each visitor's requests borrow a GPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
