"""`spaces.zero` as the playground uses it."""

from __future__ import annotations

from collections.abc import Callable

from . import torch
from .log import note

__all__ = ["decorated", "startup", "torch"]

decorated: list[Callable[..., None]] = []


def startup() -> None:
    """Pack the moved tensors; the real one reports to the Space only if there is a function."""
    note("startup", functions=len(decorated), moved=torch.moved)
