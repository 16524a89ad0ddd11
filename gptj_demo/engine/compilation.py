"""Tells whether this process has compiled code, rather than taken it from numba's cache."""

from __future__ import annotations

import sys

PACKAGE = "gptj_demo.engine."


def has_compiled() -> bool:
    """Whether a function of the engine was compiled by this process."""
    if "numba" not in sys.modules:
        return False
    from numba.core.registry import CPUDispatcher

    modules = [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]
    functions = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, CPUDispatcher)
    }
    return any(sum(one.stats.cache_misses.values()) for one in functions.values())
