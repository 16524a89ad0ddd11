"""Which version of the playground runs: the words of a seed may differ between versions."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "numba", "bitsandbytes")


@cache
def software_version() -> str:
    """Twelve hexadecimal digits that change with our code and with what computes beside it."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256(repr([_version(name) for name in LIBRARIES]).encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
