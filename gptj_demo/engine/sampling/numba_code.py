"""Chooses whether compiled code does the sampling: on a processor, if numba is available."""

from __future__ import annotations

import functools
import logging
from types import ModuleType

import torch

logger = logging.getLogger(__name__)


def compiled_code(device: torch.device) -> ModuleType | None:
    """The module `compiled`, where it can be used."""
    return _compiled() if device.type == "cpu" else None


@functools.cache
def _compiled() -> ModuleType | None:
    try:
        from gptj_demo.engine.sampling import compiled
    except (ImportError, RuntimeError) as error:
        logger.warning("sampling will be slower than it could be: %s", error)
        return None
    return compiled
