"""Finds out whether this process has compiled code that the next one takes from numba's cache."""

from __future__ import annotations

import sys
from typing import Any

PACKAGE = "gptj_demo.engine."


def compiled_functions() -> list[Any]:
    """The functions of the engine that numba compiles, as its dispatchers."""
    if "numba" not in sys.modules:
        return []
    from numba.core.registry import CPUDispatcher

    modules = [module for name, module in sys.modules.items() if name.startswith(PACKAGE)]
    functions = {
        id(value): value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, CPUDispatcher)
    }
    return list(functions.values())


def has_compiled() -> bool:
    """Whether this process has compiled a function of the engine and kept it in numba's cache."""
    stats = [function.stats for function in compiled_functions()]
    return any(one.cache_path and sum(one.cache_misses.values()) for one in stats)
